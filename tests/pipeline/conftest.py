"""A project whose default run was made and committed, once for all modules of a process."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_project import ALL, Project, small_project


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Project]:
    """Gives a copy of the project, with its outputs and its cache, in a folder of the caller's."""
    original = small_project(tmp_path_factory.mktemp("reproduced") / "clone")
    assert original.repro() == ALL
    assert "up to date" in original.run("dvc", "status")
    original.commit("its results")

    def copy(folder: Path) -> Project:
        shutil.copytree(original.folder, folder, symlinks=True)
        return Project(folder)

    return copy


@pytest.fixture(scope="module")
def project(
    reproduced: Callable[[Path], Project], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """A copy of it that the tests of a module share."""
    return reproduced(tmp_path_factory.mktemp("project") / "clone")
