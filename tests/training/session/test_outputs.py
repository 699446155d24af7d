"""A set of outputs is of one run, and complete exactly when its weights are there."""

import json
import signal
from multiprocessing import get_context
from pathlib import Path

import pytest

from ramengpt.training.session import outputs
from ramengpt.training.session.folders import RunFolders, scratch_folders
from ramengpt.training.session.outputs import (
    RESULT_FILES,
    publish_outputs,
    unpublished_weights,
    withdraw_outputs,
    write_metrics,
)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolders:
    monkeypatch.chdir(tmp_path)
    return scratch_folders(Path("out"))


def complete_set(folders: RunFolders, loss: float) -> None:
    write_metrics(folders.results, {"loss": loss}, finished=False)
    for name in RESULT_FILES[1:]:
        (folders.results / name).write_text(str(loss))
    unpublished_weights(folders).mkdir(parents=True)
    (unpublished_weights(folders) / "config.json").write_text(str(loss))
    publish_outputs(folders, {"loss": loss})


def runs_of(folders: RunFolders) -> set[str]:
    """Which runs the files under final names are of."""
    files = [*folders.results.glob("[!.]*"), *folders.models.glob("*")]
    texts = {file.name: file.read_text() for file in files}
    if "metrics.json" in texts:
        texts["metrics.json"] = str(json.loads(texts["metrics.json"])["loss"])
    return set(texts.values())


def test_a_complete_set_says_so(folders: RunFolders) -> None:
    write_metrics(folders.results, {"loss": 1.0}, finished=False)
    assert json.loads((folders.results / "metrics.json").read_text())["finished"] is False
    complete_set(folders, 1.0)
    assert json.loads((folders.results / "metrics.json").read_text())["finished"] is True
    assert not unpublished_weights(folders).exists()


def test_nothing_of_an_earlier_run_is_left(folders: RunFolders) -> None:
    complete_set(folders, 1.0)
    unpublished_weights(folders).mkdir()
    (unpublished_weights(folders) / ".tmpAbC").write_text("of safetensors")
    withdraw_outputs(folders)
    assert not folders.models.exists() and not unpublished_weights(folders).exists()
    assert list(folders.results.iterdir()) == []


@pytest.mark.parametrize("place", ["models", "models.part"])
@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_link_in_place_of_the_weights_goes_and_its_target_stays(
    folders: RunFolders, place: str, target: str
) -> None:
    complete_set(folders, 1.0)
    folders.models.rename(folders.models.with_name("elsewhere"))
    link = folders.models.with_name(place)
    link.symlink_to(target)
    withdraw_outputs(folders)
    assert not link.is_symlink()
    assert (folders.models.with_name("elsewhere") / "config.json").exists()
    complete_set(folders, 2.0)
    assert not folders.models.is_symlink()


@pytest.mark.parametrize("call", range(1, 7))
def test_no_death_leaves_weights_of_one_run_beside_numbers_of_another(
    folders: RunFolders, call: int
) -> None:
    """SIGKILL at every change of a name, while one complete set is replaced by another."""
    complete_set(folders, 1.0)
    child = get_context("fork").Process(target=_replaced_until, args=(folders, call))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    runs = runs_of(folders)
    assert runs in ({"1.0"}, {"2.0"}, set())
    if folders.models.exists() and (folders.results / "metrics.json").exists():
        assert json.loads((folders.results / "metrics.json").read_text())["finished"] is True
    withdraw_outputs(folders)
    complete_set(folders, 3.0)
    assert runs_of(folders) == {"3.0"}


def _replaced_until(folders: RunFolders, call: int) -> None:
    """Replace the set and die in place of the nth removal, rename or flush of a folder."""
    import os
    import pathlib

    calls = 0

    def dying(function):
        def step(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return step

    pathlib.Path.rename = dying(pathlib.Path.rename)
    pathlib.Path.replace = dying(pathlib.Path.replace)
    pathlib.Path.unlink = dying(pathlib.Path.unlink)
    outputs.flush_folder = dying(outputs.flush_folder)
    withdraw_outputs(folders)
    complete_set(folders, 2.0)
