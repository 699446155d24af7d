"""What all tests share: a copy of the project as a fresh clone would be."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
NEW_REPOSITORY = (
    ["git", "init", "-q"],
    ["git", "config", "user.name", "A User"],  # DVC looks for no identity in the environment
    ["git", "config", "user.email", "user@example.org"],
)
"""Commands that make one, on a machine where git knows nobody too."""


def pytest_configure() -> None:
    """Let Ctrl-C interrupt again: a shell starts `make test &` with SIGINT ignored.

    Every process that a test starts would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keep the content of bytes out of a test's name: compressed ones hold the time of day.

    Processes that collect under different names cannot share the work (pytest-xdist stops).
    """
    return argname if isinstance(val, bytes) else None


def project_environment() -> dict[str, str]:
    """The environment of a user's shell with the project's Python first and nothing to phone."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("DVC", "WANDB", "HF_", "DATA_PATH", "BATCH_SIZE", "PYTEST", "GIT_"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["WANDB_MODE"] = "disabled"
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
    for command in (
        *NEW_REPOSITORY,
        ["git", "add", "-A"],
        ["git", "commit", "-q", "-m", "clone"],
    ):
        subprocess.run(command, cwd=destination, env=project_environment(), check=True)
    return destination


@contextmanager
def edited_params(folder: Path) -> Iterator[Any]:
    """params.yaml of a folder; what the block changes is written back, comments are kept."""
    yaml, path = YAML(), folder / "params.yaml"
    params = yaml.load(path.read_text())
    yield params
    yaml.dump(params, path)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone of the project, as it is in the working tree."""
    return copy_project(tmp_path / "clone")
