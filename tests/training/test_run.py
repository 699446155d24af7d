"""Whole runs in this process: the same however often they stop, and no other run's."""

import signal
from pathlib import Path

import pytest

from ramengpt.model.gpt import GPT
from ramengpt.training.schedule.plan import StepPlan
from tests.training.tiny_run import (
    STEPS,
    before_each_step,
    log_rows,
    result,
    stop_in,
    train_in,
)

pytestmark = [
    pytest.mark.usefixtures("inside_project"),
]


def test_the_log_shows_every_transition(project: Path) -> None:
    """The other tests of this file mean little if their run has no transitions."""
    rows = log_rows(project / "whole/results/train.tsv")
    for column in ("batch_tokens", "window_tokens", "sequence_tokens"):
        assert len({row[column] for row in rows}) == 2, column
    plan = (project / "whole/results/plan.csv").read_text().splitlines()
    assert len(plan) == STEPS + 1
    assert [row["step"] for row in log_rows(project / "whole/results/validation.tsv")] == [
        "5", "10", "12",
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    project: Path, out: Path
) -> None:
    whole = result(project / "whole")
    train_in(out / "again")
    assert result(out / "again") == whole
    train_in(out / "other", "seed=7")
    other = result(out / "other")
    assert other["weights"] != whole["weights"]
    assert [row["loss"] for row in other["train"]] != [row["loss"] for row in whole["train"]]
    assert [row["tokens"] for row in other["train"]] == [row["tokens"] for row in whole["train"]]


@pytest.mark.parametrize("step", [0, 2, 6, STEPS - 2])
def test_an_interrupted_run_ends_as_a_whole_one(
    project: Path, out: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    stop_in(monkeypatch, step, out=out)
    train_in(out)
    assert result(out) == result(project / "whole")


def test_a_signal_in_the_last_step_lets_the_run_end(
    project: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(plan: StepPlan, _: GPT) -> None:
        if plan.step == STEPS - 1:
            signal.raise_signal(signal.SIGTERM)

    before_each_step(monkeypatch, ask)
    train_in(out)
    assert result(out) == result(project / "whole")


def test_how_often_to_save_is_no_part_of_the_run(
    project: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_in(monkeypatch, 5, out=out)
    train_in(out, "train.checkpoint_every_steps=5", "train.checkpoints_kept=1")
    assert result(out) == result(project / "whole")
