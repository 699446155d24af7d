"""Queued experiments side by side, with real DVC: a GPU each, runs that share a training."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.small_project import Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
]
LIMIT_SECONDS = 400
TWO_CARDS = """
from types import SimpleNamespace

pytorch, cards = torch, Path({cards!r})


def taken(index):
    (cards / f"card-{{index}}").touch()
    while not (cards / "go").exists():
        time.sleep(0.05)


def lock_folder():
    return cards


torch = SimpleNamespace(
    cuda=SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 2,
        get_device_properties=lambda index: SimpleNamespace(uuid=f"uuid-{{index}}"),
        set_device=taken,
    ),
    device=lambda *_: pytorch.device("cpu"),
)
"""
"""Two cards that compute on the CPU. Whoever took one keeps it until the test says go."""


@pytest.fixture(scope="module")
def queue(
    reproduced: Callable[[Path], Project], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, str]]:
    """A clone whose queue was worked off by four processes, and what its status says.

    Two runs differ in what `sample` does alone, one has another seed, and the last imports a
    module that git does not know.
    """
    folder = tmp_path_factory.mktemp("queue")
    project = reproduced(folder / "clone")
    project.edit("ramengpt/training/session/own_device.py", TWO_CARDS.format(cards=str(folder)))
    enqueue = ("dvc", "exp", "run", "--queue")
    sample = ("-S", "sample.temperature=0.5,0.6")
    project.run(*enqueue, "--name", "twin", "-S", "seed=11", *sample)
    project.run(*enqueue, "--name", "other", "-S", "seed=12")
    rules = "ramengpt/optimizers/rules.py"
    project.edit(rules, "from ramengpt.optimizers.of_my_own import MyOwn")
    (project.folder / "ramengpt/optimizers/of_my_own.py").write_text("class MyOwn: ...\n")
    project.run(*enqueue, "--name", "forgotten", "-S", "seed=13")
    project.run("dvc", "queue", "start", "--jobs", "4")
    try:
        limit = time.monotonic() + LIMIT_SECONDS
        while not (
            len(list(folder.glob("card-*"))) == 2
            and "a run is already going here" in (said := outputs(project))
            and "has only files that git knows" in said
        ):
            assert time.monotonic() < limit, outputs(project)
            time.sleep(0.2)
    finally:
        (folder / "go").touch()
    yield project, project.drained_queue()


def outputs(project: Project) -> str:
    """What all queued experiments have printed so far."""
    logs = sorted((project.folder / ".dvc/tmp/exps/run").glob("*/*.out"))
    return "\n".join(log.read_text() for log in logs)


def recorded(project: Project, name: str, output: str) -> str:
    """The checksum of an output in an experiment's dvc.lock."""
    reference = project.run(
        "git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}"
    ).strip()
    lock = YAML(typ="safe").load(project.run("git", "show", f"{reference}:dvc.lock"))
    outs = [out for stage in lock["stages"].values() for out in stage["outs"]]
    (checksum,) = [out["md5"] for out in outs if out["path"] == output]
    return checksum


def test_two_runs_train_side_by_side_on_a_card_each(queue: tuple[Project, str]) -> None:
    project, status = queue
    assert status.count("Success") == 3, status
    assert recorded(project, "other", "models") != recorded(project, "twin-1", "models")


def test_runs_that_differ_in_their_samples_alone_both_succeed(queue: tuple[Project, str]) -> None:
    """One waits until the other has trained: neither fails, nor do they write over each other."""
    project, _ = queue
    first, second = (project.run("dvc", "queue", "logs", f"twin-{number}") for number in (1, 2))
    waiting = "a run is already going here"
    assert (waiting in first) != (waiting in second)
    for output, is_the_same in (("models", True), ("results/samples.md", False)):
        first, second = (recorded(project, f"twin-{number}", output) for number in (1, 2))
        assert (first == second) == is_the_same


def test_a_module_that_git_does_not_know_is_named(queue: tuple[Project, str]) -> None:
    project, status = queue
    assert status.count("Failed") == 1
    printed = project.run("dvc", "queue", "logs", "forgotten")
    advice = "`git add ramengpt/optimizers/of_my_own.py`, then queue it again"
    assert printed.count(advice) == 1 and "Traceback" not in printed
