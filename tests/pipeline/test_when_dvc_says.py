"""docs/when_dvc_says.md, line by line: what DVC says, and that what to type helps."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.small_project import Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
PAGE = (ROOT / "docs/when_dvc_says.md").read_text()


# The tests below share one clone; each leaves it as it was committed, with its outputs.


def assert_said(printed: str, *quotes: str) -> None:
    """The page quotes it, and DVC has said it; `...` stands for anything, blanks are one."""
    said = " ".join(printed.split())
    for quote in quotes:
        assert quote in PAGE
        assert re.search(".*".join(map(re.escape, quote.split("..."))), said), printed


def test_a_key_or_a_selector_that_is_mistyped(project: Project) -> None:
    printed = project.run("dvc", "exp", "run", "-S", "optimizr=adam", fails=True)
    assert_said(
        printed,
        "Could not override 'optimizr'. To append to your config use +optimizr=adam",
    )
    project.set("optimizer", "adamz")
    printed = project.run("dvc", "repro", "-s", "train", fails=True)
    assert_said(printed, "Parameters 'optimizers.adamz' are missing from 'params.yaml'")
    project.run("dvc", "repro", "check", fails=True)
    printed = project.run("dvc", "repro", "-s", "train", fails=True)
    assert_said(printed, "failed to reproduce 'train': [Errno 2] No such file or directory: ")
    project.run("git", "restore", "params.yaml")
    project.run("dvc", "checkout")
    assert project.repro() == []


def test_what_was_removed(project: Project) -> None:
    shutil.rmtree(project.folder / "models")
    assert_said(project.run("dvc", "status"), "deleted: models")
    cache = project.folder / ".dvc/cache"
    cache.rename(project.folder / "away")
    printed = project.run("dvc", "checkout", "models", fails=True)
    assert_said(printed, "Checkout failed ... Is your cache up to date?")
    (project.folder / "away").rename(cache)
    project.run("dvc", "checkout")
    assert project.repro() == []


def test_the_tables_of_an_unfinished_run(project: Project) -> None:
    tables = [project.folder / f"results/train/{name}.tsv" for name in ("train", "validation")]
    for table in tables:
        table.unlink()
        table.write_text("of another run\n")
    printed = project.run("dvc", "checkout", fails=True)
    assert_said(printed, "Can't remove the following unsaved files without confirmation")
    project.run("dvc", "checkout", "--force")
    assert project.repro() == []


def test_another_command_that_runs(project: Project) -> None:
    """DVC keeps a list of what each running command writes; a dead one is taken off it."""
    lock = project.folder / ".dvc/tmp/rwlock"
    for holder, fails in ((os.getpid(), True), (dead_process(), False)):
        writer = {"pid": holder, "cmd": "dvc repro"}
        lock.write_text(json.dumps({"write": {str(project.folder / "models"): writer}}))
        printed = project.run("dvc", "repro", "train", fails=fails)
        if fails:
            assert_said(printed, "... is busy, it is being blocked by: ")
            assert f"(PID {holder})" in printed


def dead_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_a_stage_cannot_be_frozen(project: Project) -> None:
    printed = project.run("dvc", "freeze", "train", fails=True)
    assert_said(printed, "cannot dump a parametrized stage: 'train'")
    assert project.run("git", "status", "--short") == ""


def test_without_a_remote(project: Project) -> None:
    """`dvc exp push` sends the commit alone; with a remote whose whole path is given, all of it."""
    project.run("dvc", "exp", "save", "--name", "one")
    push = ("dvc", "exp", "push", "origin", "one")
    printed = project.run(*push, fails=True)
    assert_said(printed, "Git failed to push '[]' to 'origin': No git repository was found")
    project.run("git", "init", "-q", "--bare", "../origin.git")
    project.run("git", "remote", "add", "origin", "../origin.git")
    printed = project.run(*push)
    assert_said(printed, "Pushed experiment one to Git remote 'origin'.")
    assert "file" not in printed
    assert_said(project.run("dvc", "push", fails=True), "no remote specified")
    assert_said(project.run("dvc", "pull"), "No remote provided and no default remote set")
    commit = project.run("git", "rev-parse", "HEAD").strip()
    shelf = project.folder.parent / "shelf"
    project.run("dvc", "remote", "add", "--default", "shelf", str(shelf))
    project.commit("Keep results on the shelf")
    project.run("dvc", "exp", "save", "--name", "one", "--force")
    assert "files uploaded" in project.run(*push)
    assert any(shelf.iterdir())
    project.run("git", "reset", "-q", "--hard", commit)
