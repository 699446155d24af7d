"""A tiny project with a finished run, for tests of whole runs in this process."""

from contextlib import chdir
from pathlib import Path

import pytest

from tests.training.tiny_run import make_tiny_project, train_in


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an uninterrupted run in whole/; tests only add to it."""
    folder = tmp_path_factory.mktemp("project")
    with chdir(folder):
        make_tiny_project(folder)
        train_in(Path("whole"))
    return folder


@pytest.fixture
def inside_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project is the current folder, whatever the environment says, and code never changes."""
    monkeypatch.chdir(project)
    monkeypatch.delenv("DATA_PATH", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("ramengpt.training.setup.stage_code", lambda *_: {"code": "the same"})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a run of the test goes."""
    return tmp_path / "out"
