"""Whole runs that a loss or a budget of seconds ends; time moves by one second a step."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from ramengpt.config import load_config
from ramengpt.training import setup
from ramengpt.training.run import train
from ramengpt.training.schedule.run_steps import StopRules
from ramengpt.training.session.interruption import InterruptedRunError
from ramengpt.training.session.settings import RunOptions
from tests.training.tiny_run import before_each_step, folders_in, log_rows, make_tiny_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_tiny_project(tmp_path)
    monkeypatch.setattr("ramengpt.training.setup.stage_code", lambda *_: {"code": "the same"})


def run(rules: StopRules) -> dict:
    config = load_config(["validation.every_steps=2", "tracking.wandb=disabled"])
    train(lambda: config, RunOptions(None, None, rules), folders_in(Path("out")))
    return json.loads(Path("out/results/metrics.json").read_text())


def test_a_run_ends_at_the_loss_and_its_record_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = run(StopRules(11.0, None))
    assert metrics["stop"] == {"at_loss": 11.0, "loss_reached": True}
    assert metrics["finished"] and metrics["step"] == 2
    assert metrics["validation"]["loss"] <= 11.0
    assert Path("out/models/model.safetensors").exists()
    assert "stop      held-out loss 11 reached" in capsys.readouterr().out


def test_a_run_ends_with_its_seconds_and_a_resumed_one_keeps_those_it_spent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, interrupt = [50.0], [3]
    monkeypatch.setattr(setup, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def second_passes(plan, _) -> None:
        now[0] += 1.0
        if plan.step == interrupt[0]:
            signal.raise_signal(signal.SIGTERM)

    before_each_step(monkeypatch, second_passes)
    rules = StopRules(0.01, 6.0)
    with pytest.raises(InterruptedRunError, match="after step 4, 3 of 6 seconds, all saved"):
        run(rules)
    interrupt[0] = -1
    metrics = run(rules)
    # The first step of each process compiles and costs no budget: 0, and 4 after the resume.
    assert metrics["step"] == 8
    assert metrics["stop"] == {
        "at_loss": 0.01, "loss_reached": False, "after_seconds": 6.0, "spent_seconds": 6.0,
    }  # fmt: skip
    rows = log_rows(Path("out/results/train.tsv"))
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    tokens = [int(row["tokens"]) for row in rows]
    assert tokens == [sum(int(row["batch_tokens"]) for row in rows[:n]) for n in range(1, 9)]
    assert [row["window_tokens"] for row in rows] == ["128"] * 4 + ["256"] * 4
    assert float(rows[-1]["learning_rate_hidden"]) < 0.04
    said = capsys.readouterr()
    assert "6.0 of 6 seconds spent, compilation, validation and checkpoints not counted" in said.out
    assert "train: step 8, loss" in said.err
