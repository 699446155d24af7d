"""Hooks in whole runs: what they may change, and a killed run with all of them."""

import shutil
import signal
from pathlib import Path

import pytest

from tests.training.child_run import Death, finished, printed, start_training
from tests.training.tiny_run import STEPS, make_tiny_project, result, saved_steps, train_in

NESTEROV = ("hooks.ema_nesterov.strength=0.5",)
OUTER = ("hooks.outer_step.every_steps=3",)
AVERAGE = (
    "hooks.evaluation_average.share=0.6",
    "hooks.evaluation_average.start_fraction=0.0",
    "hooks.evaluation_average.horizon_fraction=0.5",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_tiny_project(tmp_path)
    return tmp_path


def test_an_average_changes_validation_and_the_exported_weights_only(project: Path) -> None:
    train_in(project / "plain")
    train_in(project / "averaged", *AVERAGE)
    plain, averaged = result(project / "plain"), result(project / "averaged")
    assert averaged["train"] == plain["train"]
    assert averaged["weights"] != plain["weights"]
    assert averaged["validation"] != plain["validation"]


@pytest.mark.slow
def test_a_killed_run_with_all_hooks_ends_as_if_it_had_not_been(project: Path) -> None:
    settings = [*NESTEROV, *OUTER, *AVERAGE, "optimizer=muon_eq_r"]
    flags = [part for setting in settings for part in ("--set", setting)]
    assert finished(start_training(project, ["--out", "whole", *flags])) == 0, printed(project)
    expected = result(project / "whole")
    assert len(expected["train"]) == STEPS
    shutil.rmtree(project / "whole")
    flags = ["--out", "out", "--checkpoint_every", "1", *flags]
    death = Death("loop", "train_step", STEPS - 1)
    assert finished(start_training(project, flags, death)) == -signal.SIGKILL
    assert saved_steps(project / "out")[-1] == STEPS - 2
    assert finished(start_training(project, flags)) == 0, printed(project)
    assert result(project / "out") == expected
