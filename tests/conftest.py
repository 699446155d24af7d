"""What all tests share: a copy of the project as a fresh clone would be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def project_environment() -> dict[str, str]:
    """The environment of a user's shell with the project's Python first and nothing to phone."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("DVC", "WANDB", "HF_", "DATA_PATH", "BATCH_SIZE", "PYTEST", "GIT_"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["WANDB_MODE"] = "disabled"
    environment["GIT_CONFIG_COUNT"] = "2"
    environment |= {"GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "A User"}
    environment |= {"GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "user@example.org"}
    return environment


def copy_project(destination: Path) -> Path:
    """Copy every file that git tracks or would add, and commit it in a repository of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, destination / name)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "clone"]):
        subprocess.run(["git", *command], cwd=destination, env=project_environment(), check=True)
    return destination


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone of the project, as it is in the working tree."""
    return copy_project(tmp_path / "clone")
