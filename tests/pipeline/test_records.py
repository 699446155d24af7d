"""What DVC records is what ran, with real DVC in a fresh clone: kills, edits, closed pipes."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import project_environment
from tests.small_project import Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
LIMIT_SECONDS = 120


@pytest.fixture(autouse=True)
def back_to_the_commit(project: Project) -> Iterator[None]:
    """Each test leaves the clone as it was committed, with its outputs."""
    yield
    project.run("git", "restore", ".")
    project.run("dvc", "checkout", "--force")


def metrics(project: Project) -> dict[str, Any]:
    return json.loads((project.folder / "results/train/metrics.json").read_text())


def trained_with(project: Project) -> dict[str, Any]:
    return json.loads((project.folder / "models/config.json").read_text())["run"]


@contextmanager
def training(project: Project, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a group of processes of its own, once its first step is in its metrics."""
    before = (project.folder / "results/train/metrics.json").stat().st_mtime_ns
    process = subprocess.Popen(
        command, cwd=project.folder, env=project_environment(), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        limit = time.monotonic() + LIMIT_SECONDS
        path = project.folder / "results/train/metrics.json"
        while (
            not path.exists() or path.stat().st_mtime_ns == before or "step" not in metrics(project)
        ):
            assert process.poll() is None and time.monotonic() < limit, process.communicate()[0]
            time.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_killed_run_leaves_no_other_runs_numbers(project: Project) -> None:
    """Nor does `dvc exp save` make a success of it; and while it went on, its own were shown.

    No other run gets into its folder meanwhile, and those started at once do not share one.
    """
    project.set("optimizer", "bam")
    project.set("schedules.instant.scheduled_steps", 20000)
    with training(project, "dvc", "repro"):
        assert metrics(project)["finished"] is False
        assert re.search(r"train/metrics\.json +False +bam-", project.run("dvc", "metrics", "show"))
        refused = project.run("python", "-m", "pipeline.train", fails=True)
        assert "results: a run is already going here, in process" in refused
        check_runs_started_at_once_keep_apart(project)
    for file in ("models", "results/samples.md"):
        assert not (project.folder / file).exists()
    assert metrics(project)["finished"] is False
    refused = project.run("python", "-m", "ramengpt.comparison", "HEAD", "workspace", fails=True)
    assert "workspace: " in refused and "Traceback" not in refused
    subprocess.run(["dvc", "exp", "save", "--name", "killed"], cwd=project.folder,
                   env=project_environment(), capture_output=True)  # fmt: skip
    assert "Running stage 'train'" in project.run("dvc", "repro", "--dry", "train")


def check_runs_started_at_once_keep_apart(project: Project) -> None:
    command = ("python", "-m", "pipeline.train", "--early_stop_steps", "1", "--seed")
    runs = [
        subprocess.Popen([*command, seed], cwd=project.folder, env=project_environment(),
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for seed in ("1", "2")
    ]  # fmt: skip
    assert [run.wait(LIMIT_SECONDS) for run in runs] == [0, 0]
    configs = (project.folder / "runs").glob("*/models/config.json")
    assert {json.loads(config.read_text())["run"]["seed"] for config in configs} == {1, 2}


DYING_AT_THE_LAST_RENAME = """
import os, pathlib, signal, sys
rename = pathlib.Path.rename
def dying(self, target):
    if os.fspath(target) == "models":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
if "pipeline.train" in sys.orig_argv:
    pathlib.Path.rename = dying
"""


def test_a_kill_before_the_last_rename_leaves_no_mixed_set(
    project: Project, tmp_path: Path
) -> None:
    before = metrics(project)["run"]
    (tmp_path / "sitecustomize.py").write_text(DYING_AT_THE_LAST_RENAME)
    project.set("seed", 78)
    project.run("dvc", "repro", fails=True, PYTHONPATH=str(tmp_path))
    assert metrics(project)["run"] != before and metrics(project)["step"] == 4
    assert not (project.folder / "models").exists()
    refused = project.run(
        "python", "-m", "ramengpt.inference.generate", "--prompt", "x", fails=True
    )
    assert "models" in refused and "Traceback" not in refused
    project.run("dvc", "repro")
    assert trained_with(project)["seed"] == 78 and metrics(project)["finished"] is True
    names = {file.name for file in (project.folder / "models").iterdir()}
    assert names == {"model.safetensors", "config.json"}
    assert not (project.folder / "models.part").exists()


def test_a_diverged_run_leaves_its_own_rows_and_no_weights(project: Project) -> None:
    before = metrics(project)["run"]
    project.set("optimizers.normuon.learning_rate", 1000000.0)
    project.set("scalar_adam.learning_rate", 1000000.0)
    project.set("train.checkpoint_every_steps", 1)
    printed = project.run("dvc", "repro", fails=True)
    assert "last good checkpoint: " in printed and "Traceback" not in printed
    assert not (project.folder / "models").exists()
    assert metrics(project)["finished"] is False and metrics(project)["run"] != before


@pytest.mark.parametrize(
    ("edited", "said"),
    [
        ("params.yaml", "seed changed while"),
        ("ramengpt/model/norm.py", "ramengpt/model/norm.py ch"),
    ],
)
def test_an_edit_while_training_is_not_recorded_as_what_ran(
    project: Project, edited: str, said: str
) -> None:
    lock = (project.folder / "dvc.lock").read_text()
    project.set("schedules.instant.scheduled_steps", 60)
    with training(project, "dvc", "repro", "train") as process:
        if edited == "params.yaml":
            project.set("seed", 4)
        else:
            project.edit(edited, "EDITED = True")
        printed = process.communicate(timeout=LIMIT_SECONDS)[0]
    assert process.returncode != 0
    assert said in printed
    assert "Traceback" not in printed
    assert not (project.folder / "models").exists()
    assert metrics(project) == {"finished": False}, "or DVC would show the recorded run's"
    recorded = (project.folder / "dvc.lock").read_text()
    assert recorded.partition("  train:")[2] == lock.partition("  train:")[2]


def test_a_closed_pipe_is_no_success_without_a_model(project: Project) -> None:
    project.set("seed", 77)
    project.run("bash", "-c", "dvc repro -q | true")
    project.run("dvc", "repro")
    assert trained_with(project)["seed"] == 77
    command = "set -o pipefail; python -m pipeline.train --early_stop_steps 1 --out runs/pipe"
    ended = subprocess.run(
        ["bash", "-c", f"{command} | true"], cwd=project.folder, env=project_environment()
    )
    assert (ended.returncode == 0) == (project.folder / "runs/pipe/models").exists()


def test_the_same_experiment_twice_trains_once(project: Project) -> None:
    loss, seed = metrics(project)["validation"]["loss"], trained_with(project)["seed"]
    project.set("seed", seed + 5)
    assert project.repro() == ["check", "train", "sample"]
    assert metrics(project)["validation"]["loss"] != loss
    project.set("seed", seed)
    printed = project.run("dvc", "repro")
    assert "Stage 'train' is cached - skipping run" in printed
    assert "Running stage" not in printed.partition("'train'")[2]
    assert metrics(project)["validation"]["loss"] == loss
    assert trained_with(project)["seed"] == seed


def test_what_decides_no_output_reruns_the_check_alone(project: Project) -> None:
    for file in (
        "optimizers/normuon.py", "model/gpt.py", "training/loop.py", "kernels/head/cuda.py",
        "data/sources/build.py",
    ):  # fmt: skip
        project.edit(f"ramengpt/{file}", "# a comment")
    for file in ("optimizers/bam.py", "comparison/page.py", "training/tracking/live_view.py"):
        project.edit(f"ramengpt/{file}", "UNUSED = 1")
    project.set("train.checkpoint_every_steps", 7)
    project.set("train.checkpoints_kept", 1)
    project.set("optimizers.bam.learning_rate", 0.0125)
    assert project.repro() == ["check"]
    assert "up to date" in project.run("dvc", "status")


def test_a_comment_discards_no_killed_runs_progress(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It resumes, and on another number of threads says that it is not bit for bit."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    project.set("schedules.instant.scheduled_steps", 40)
    project.set("train.checkpoint_every_steps", 10)
    pattern = "data/checkpoints/*/step-????????/checkpoint.json"
    of_other_runs = set(project.folder.glob(pattern))
    with training(project, "dvc", "repro", "train"):
        limit = time.monotonic() + LIMIT_SECONDS
        while not set(project.folder.glob(pattern)) - of_other_runs:
            assert time.monotonic() < limit
            time.sleep(0.05)
    project.edit("ramengpt/model/gpt.py", "UNUSED = 1")
    project.set("schedules.instant.scheduled_steps", 4)
    printed = project.run("dvc", "repro", "train")
    assert "no run can resume from" in printed and "gpt.py has changed since; `ramengpt" in printed
    project.run("git", "restore", "ramengpt/model/gpt.py")
    project.edit("ramengpt/model/gpt.py", "# a comment")
    project.edit("ramengpt/optimizers/aro.py", "UNUSED = 1")
    project.set("schedules.instant.scheduled_steps", 40)
    printed = project.run("dvc", "repro", "train", OMP_NUM_THREADS="2")
    assert re.search(r"resuming after step .* not bit for bit, since threads 1 -> 2", printed)


@pytest.mark.parametrize("edit", ["added", "removed", "changed"])
def test_the_users_text_is_a_dependency(project: Project, edit: str) -> None:
    """`git restore` leaves text alone, so each edit is undone here."""
    file = project.folder / "data/text/39.txt"
    content = file.read_text()
    new = project.folder / "data/text/new.txt"
    try:
        match edit:
            case "added":
                new.write_text("Another document. " * 30)
            case "removed":
                file.unlink()
            case "changed":
                file.write_text(content.replace("Document", "A document"))
        printed = project.run("dvc", "repro", "index")
        assert re.findall(r"Running stage '(\w+)'", printed) == ["download", "verify", "index"]
        assert "train:" in project.run("dvc", "status", "train")
    finally:
        file.write_text(content)
        new.unlink(missing_ok=True)
    assert "is cached" in project.run("dvc", "repro")


CAPITALS = """
_as_it_was = encode_documents


def encode_documents(documents):
    return _as_it_was([document.upper() for document in documents])
"""


def test_code_that_makes_tokens_is_a_dependency(project: Project) -> None:
    """Also where the stage is run by hand, which looks at the store alone."""
    manifest = project.folder / "data/manifest.json"
    before = manifest.read_text()
    project.edit("ramengpt/data/text/tokenizer.py", CAPITALS)
    printed = project.run("dvc", "repro", "index")
    assert re.findall(r"Running stage '(\w+)'", printed)[:3] == ["check", "download", "verify"]
    assert manifest.read_text() != before
    project.run("git", "restore", "ramengpt")
    for stage in ("download", "verify"):
        project.run("python", "-m", f"pipeline.{stage}")
    assert manifest.read_text() == before
