"""Training where the data is not there: lost after the pipeline ran, or never made."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_project import Project, small_project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
SMOKE = ("python", "-m", "pipeline.train", "--early_stop_steps", "2", "--seed", "123")


@pytest.fixture
def project(reproduced: Callable[[Path], Project], tmp_path: Path) -> Project:
    return reproduced(tmp_path / "clone")


def assert_shards_are_the_manifests(project: Project) -> None:
    manifest = json.loads((project.folder / "data/manifest.json").read_text())
    store = project.folder / "data/shards" / manifest["dataset"]
    for shard in manifest["shards"]:
        content = (store / shard["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]


def test_another_optimizer_trains_where_there_are_no_shards(project) -> None:
    """The same after `git clone` and `dvc pull`, which bring no shards."""
    project.run("dvc", "remote", "add", "--default", "shelf", "../shelf")
    project.commit("Keep results on the shelf")
    project.run("dvc", "push")
    elsewhere = project.folder.parent / "elsewhere"
    project.run("git", "clone", "-q", ".", str(elsewhere))
    shutil.copytree(project.folder / "data/text", elsewhere / "data/text", dirs_exist_ok=True)
    project = Project(elsewhere)
    project.run("dvc", "pull")
    assert not (elsewhere / "data/shards").exists()
    printed = project.run("dvc", "exp", "run", "-S", "optimizer=adam")
    assert printed.count("they are obtained again") == 1
    assert "Running stage 'train'" in printed and "Running stage 'download'" not in printed
    assert_shards_are_the_manifests(project)
    (store,) = (project.folder / "data/shards").iterdir()
    (store / "text_val_000000.bin").unlink()
    printed = project.run("python", "-m", "ramengpt.inference.evaluate")
    assert "(text_val_000000.bin); they are obtained again" in printed
    assert_shards_are_the_manifests(project)
    before = (project.folder / "data/index/index.json").read_bytes()
    shutil.rmtree(project.folder / "data/shards")
    assert "they are obtained again" in project.run("python", "-m", "pipeline.index")
    assert (project.folder / "data/index/index.json").read_bytes() == before


def test_the_command_that_the_message_names_takes_the_changed_source(project) -> None:
    shutil.rmtree(project.folder / "data/shards")
    (project.folder / "data/text/00.txt").write_text("Another document. " * 40)
    printed = project.run(*SMOKE, fails=True)
    assert "its source has changed since; run `dvc repro -f index`" in printed
    project.run("dvc", "repro", "-f", "index")
    project.run(*SMOKE)
    assert_shards_are_the_manifests(project)


def test_removed_data_comes_back(project) -> None:
    """All of it: here the user's own text lies elsewhere."""
    shutil.copytree(project.folder / "data/text", project.folder / "texts")
    project.set("datasets.text.paths", ["texts/*.txt"])
    assert project.repro() == ["check", "download", "verify"], "the same text, the same shards"
    shutil.rmtree(project.folder / "data")
    assert "train" not in project.repro()
    assert project.repro() == []
    assert "up to date" in project.run("dvc", "status")
    assert_shards_are_the_manifests(project)


def test_a_scratch_run_in_a_fresh_clone_makes_its_data(tmp_path) -> None:
    project = small_project(tmp_path / "clone")
    printed = project.run(*SMOKE)
    for stage in ("download", "verify", "index"):
        assert printed.count(f"(stage {stage})") == 1
    assert_shards_are_the_manifests(project)
    assert "(stage " not in project.run(*SMOKE), "what is there is used"
    printed = project.run("dvc", "repro", "index")
    assert "Running stage 'index'" in printed, "the pipeline is not confused by it"
