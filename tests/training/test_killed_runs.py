"""A run that is killed, however often and wherever, ends as if it had not been."""

import os
import random
import shutil
import signal
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.training.child_run import Death, SizeLimit, finished, printed, start_training
from tests.training.tiny_run import STEPS, make_tiny_project, result, run_folder, saved_steps

pytestmark = [
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an uninterrupted run in whole/."""
    folder = tmp_path_factory.mktemp("original")
    with chdir(folder):
        make_tiny_project(folder)
    assert finished(start_training(folder, ["--out", "whole"])) == 0, printed(folder)
    assert len(result(folder / "whole")["train"]) == STEPS
    return folder


@pytest.fixture(scope="module")
def expected(original: Path) -> dict[str, Any]:
    return result(original / "whole")


@pytest.fixture
def project(original: Path, tmp_path: Path) -> Path:
    """The same project, without that run."""
    folder = tmp_path / "project"
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("whole", "printed.txt"))
    return folder


def train(project: Path, *flags: str, fault: Death | SizeLimit | None = None) -> int:
    return finished(start_training(project, ["--out", "out", *flags], fault))


DEATHS = [
    SizeLimit(5_000_000, kills=True),  # in the middle of the first state.pt
    Death("session.checkpoint", "_sha256", 1),  # state.pt is whole, nothing says so
    Death("session.checkpoint", "flush_folder", 3),  # the second checkpoint lacks its final name
    Death("session.checkpoint", "_clear", 6),  # an old one was about to be deleted
    Death("loop", "_validate", 2),
    Death("session.checkpoint", "shutil.rmtree", 2),  # half-deleted
    Death("run", "export_weights", 1),
    Death("run", "publish_outputs", 1),  # the weights are not renamed yet
    Death("session.outputs", "flush_folder", 1),  # the set is complete
    Death("session.checkpoint", "CheckpointFolder.remove", 1),
]


def test_death_at_every_kind_of_moment_changes_nothing(
    project: Path, expected: dict[str, Any]
) -> None:
    every = ("--checkpoint_every", "1")
    saved = []
    for death in DEATHS:
        kill = signal.SIGXFSZ if isinstance(death, SizeLimit) else signal.SIGKILL
        assert train(project, *every, fault=death) == -kill, (death, printed(project))
        saved.append(saved_of(project))
    assert saved[:2] == [[], []]
    assert saved == sorted(saved), "no death takes back what was reached"
    assert saved[-1][-1] == STEPS - 1
    assert train(project, *every) == 0
    said = printed(project)
    assert said.count(f"resuming after step {STEPS - 1}") == 4
    assert "skipped" not in said
    assert result(project / "out") == expected
    assert [path.name for path in run_folder(project / "out").iterdir()] == ["run.lock"]


def saved_of(project: Path) -> list[int]:
    """Steps of the whole checkpoints, without what a death left half-written or half-deleted."""
    names = [path.name for path in run_folder(project / "out").glob("step-*")]
    return sorted(int(name.removeprefix("step-")) for name in names if name[5:].isdigit())


def test_death_at_random_moments_changes_nothing(project: Path, expected: dict[str, Any]) -> None:
    moments = random.Random(5)
    every = ("--checkpoint_every", "1")
    for _ in range(3):
        work = moments.uniform(0.001, 0.03)
        death = Death("loop", "train_step", 2, cpu_seconds=work)
        assert train(project, *every, fault=death) == -signal.SIGPROF, printed(project)
    assert train(project, *every) == 0
    assert result(project / "out") == expected


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_polite_signal_saves_and_says_how_to_resume(
    project: Path, expected: dict[str, Any], number: int, status: int
) -> None:
    assert train(project, fault=Death("loop", "train_step", 5, number)) == status
    step = 5
    assert saved_steps(project / "out")[-1] == step
    said = printed(project)
    assert f"error: stopped after step {step} of {STEPS}, all saved in out/checkpoints/" in said
    assert "the same command resumes from there" in said
    assert "Traceback" not in said
    assert not (project / "out/models").exists()
    assert train(project) == 0
    assert f"resuming after step {step}, from" in printed(project)
    assert result(project / "out") == expected


def test_a_second_process_is_refused_but_another_run_is_not(project: Path) -> None:
    stop = Death("loop", "train_step", 3, signal.SIGSTOP)
    first = start_training(project, ["--out", "out"], stop)
    while psutil.Process(first.pid).status() != psutil.STATUS_STOPPED:
        assert first.is_alive(), printed(project)
        time.sleep(0.005)
    try:
        printed(project)
        assert train(project) == 1
        said = printed(project)
        assert f"a run is already going here, in process {first.pid} on " in said
        assert said.count("\n") == 1
        assert train(project, "--seed", "7", "--out", "other", "--early_stop_steps", "1") == 0
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert finished(first) == 0


def test_a_full_disk_is_one_line_and_costs_no_checkpoint(
    project: Path, expected: dict[str, Any]
) -> None:
    assert train(project, fault=Death("session.checkpoint", "_sha256", 2)) == -signal.SIGKILL
    assert saved_of(project) == [2]
    printed(project)
    assert train(project, fault=SizeLimit(5_000_000, kills=False)) == 1
    said = printed(project)
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "the checkpoint of step 4 could not be written (" in error
    assert "earlier checkpoints: the one of step 2 is intact. Free some disk space" in error
    assert "Traceback" not in said
    # Too late for a checkpoint, too early for the weights.
    flags = ("--checkpoint_every", "100")
    assert train(project, *flags, fault=SizeLimit(100_000, kills=False)) == 1
    (error,) = [line for line in printed(project).splitlines() if line.startswith("error: ")]
    assert "models.part/model.safetensors: " in error and "make room there" in error
    assert saved_of(project) == [2]
    assert train(project) == 0
    assert result(project / "out") == expected
