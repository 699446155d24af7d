"""What DVC shows of a queued experiment, from the queue to its end: its own numbers or none."""

import csv
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from ramengpt.data.sources.obtain import LOCK_NAME
from tests.conftest import project_environment
from tests.small_project import Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
LIMIT_SECONDS = 240
NUMBERS = ("run", "validation.loss", "train.loss", "step", "seconds", "speed.tokens_per_second")


def start_queue(project: Project) -> None:
    """Its worker keeps the output open, so that a pipe there would not end before it does."""
    subprocess.run(
        ["dvc", "queue", "start"], cwd=project.folder, env=project_environment(), check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def row(project: Project, name: str) -> dict[str, str]:
    """An experiment or a revision in the table of `dvc exp show`."""
    printed = project.run("dvc", "exp", "show", "--csv")
    table = csv.DictReader(printed[printed.index("Experiment,") :].splitlines())
    (found,) = [line for line in table if name in (line["Experiment"], line["rev"])]
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


def own_folder(project: Project) -> list[Path]:
    """Where DVC runs the experiment; none before and after."""
    return list((project.folder / ".dvc/tmp/exps").glob("tmp*"))


def printed_by_the_run(project: Project) -> str:
    logs = (project.folder / ".dvc/tmp/exps/run").glob("*/*.out")
    return "".join(log.read_text() for log in logs)


def metrics_of_the_run(project: Project) -> dict[str, Any]:
    """Empty while DVC clears the way for its training."""
    (folder,) = own_folder(project)
    try:
        return json.loads((folder / "results/train/metrics.json").read_text())
    except FileNotFoundError:
        return {}


def test_a_queued_experiment_shows_its_own_numbers_or_none(project: Project) -> None:
    """Held up before training, it shows none; then it is followed.

    Once it has failed, DVC reads its row from the commit that it was queued from: `run` says so.
    """
    head = row(project, "master")
    assert head["run"].startswith("normuon-") and head["finished"] == "True"
    project.run(
        "dvc", "exp", "run", "--queue", "--name", "rival", "-S", "optimizer=adam",
        "-S", "schedules.instant.scheduled_steps=20000",
    )  # fmt: skip
    queued = row(project, "rival")
    assert queued["State"] == "Queued" and not any(queued[number] for number in NUMBERS)

    with FileLock(project.folder / "data/shards/text" / LOCK_NAME):
        start_queue(project)
        wait_for(lambda: "another download is using" in printed_by_the_run(project))
        held = row(project, "rival")
        assert (held["State"], held["optimizer"], held["finished"]) == ("Running", "adam", "False")
        assert not any(held[number] for number in NUMBERS)

    wait_for(lambda: "step" in metrics_of_the_run(project))
    first = row(project, "rival")
    assert (first["State"], first["finished"]) == ("Running", "False")
    assert first["run"].startswith("adam-") and first["train.loss"] != head["train.loss"]
    wait_for(lambda: metrics_of_the_run(project)["step"] > int(first["step"]))
    assert int(row(project, "rival")["step"]) > int(first["step"])
    project.run("dvc", "plots", "diff", "HEAD", "rival")
    page = (project.folder / "dvc_plots/index.html").read_text()
    assert page.count('"rev": "rival"') > int(first["step"])
    refused = project.run("python", "-m", "ramengpt.comparison", "HEAD", "rival", fails=True)
    assert "'rival': no such revision" in refused

    project.run("dvc", "queue", "kill", "rival")
    wait_for(lambda: not own_folder(project))
    failed = row(project, "rival")
    assert (failed["State"], failed["optimizer"]) == ("Failed", "adam")
    assert {number: failed[number] for number in NUMBERS} == {
        number: head[number] for number in NUMBERS
    }
    project.run("dvc", "queue", "remove", "--failed")
    assert "rival" not in project.run("dvc", "exp", "show", "--csv")
