"""Checkpoints of a whole run: everything that decides what comes next, written whole or not at all.

A run's checkpoints lie in one folder, named after the run's fingerprint, outside DVC's outputs
(DVC deletes those before a stage starts):

    <folder>/step-00000100/state.pt        tensors and plain values, by torch.save
    <folder>/step-00000100/checksum.json   bytes and sha256 of state.pt
    <folder>/run.lock                      held by the process that writes here

A checkpoint is written under a temporary name, flushed, and renamed; a process killed at any
moment leaves the checkpoints before it as they were.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from ramengpt.errors import UserError

STEP_FOLDER = re.compile(r"step-(\d{8})")


class CheckpointError(UserError):
    """A checkpoint that could not be written, or that is of another run."""


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: made if missing.
        kept: number of newest checkpoints that stay.
    """

    def __init__(self, folder: Path, kept: int) -> None:
        self.folder = folder
        self.kept = kept
        folder.mkdir(parents=True, exist_ok=True)

    def steps(self) -> list[int]:
        """Steps of the checkpoints that lie here under a final name, oldest first."""
        names = (STEP_FOLDER.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> Path:
        """Folder of the checkpoint taken after ``step`` steps."""
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write one checkpoint, then remove those too old to keep.

        Args:
            step: number of steps done.
            state: tensors and plain Python values, nested in dicts and lists.

        Returns:
            The checkpoint's folder.

        Raises:
            CheckpointError: the disk is full or refuses; older checkpoints are untouched.
        """
        partial = self.folder / f"step-{step:08d}.part"
        try:
            _clear(partial)
            partial.mkdir()
            _write_state(partial, state)
            _clear(self.path(step))
            partial.rename(self.path(step))
            _flush_folder(self.folder)
        except (OSError, RuntimeError) as error:
            # torch.save reports a full disk as a RuntimeError of its zip writer.
            shutil.rmtree(partial, ignore_errors=True)
            newest = self.steps()
            intact = f"the one of step {newest[-1]} is intact" if newest else "there is none yet"
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {step} could not be written "
                f"({_first_line(error)}); earlier checkpoints: {intact}. "
                "Free some disk space, then run the same command again to go on"
            ) from error
        for old in self.steps()[: -self.kept]:
            _clear(self.path(old))
        return self.path(step)

    def load_newest(self, device: torch.device) -> tuple[dict[str, Any] | None, list[str]]:
        """Read the newest checkpoint that is whole.

        Args:
            device: where tensors go.

        Returns:
            The state (None where no checkpoint is whole), and a line for each newer one that
            had to be passed over, with the reason.
        """
        passed_over: list[str] = []
        for step in reversed(self.steps()):
            try:
                return _read_state(self.path(step), device), passed_over
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                passed_over.append(f"{self.path(step)}: passed over, {_first_line(error)}")
        return None, passed_over

    def remove(self) -> None:
        """Delete the checkpoints: the run is complete and its outputs are written."""
        for step in self.steps():
            _clear(self.path(step))
        for partial in self.folder.glob("step-*.part"):
            _clear(partial)


def _write_state(folder: Path, state: dict[str, Any]) -> None:
    state_file = folder / "state.pt"
    torch.save(state, state_file)
    _flush(state_file)
    checksum = {"bytes": state_file.stat().st_size, "sha256": _sha256(state_file)}
    checksum_file = folder / "checksum.json"
    checksum_file.write_text(json.dumps(checksum) + "\n")
    _flush(checksum_file)
    _flush_folder(folder)


def _read_state(folder: Path, device: torch.device) -> dict[str, Any]:
    expected = json.loads((folder / "checksum.json").read_text())
    state_file = folder / "state.pt"
    found_bytes = state_file.stat().st_size
    if found_bytes != expected["bytes"]:
        raise ValueError(f"state.pt: expected {expected['bytes']} bytes, found {found_bytes}")
    if _sha256(state_file) != expected["sha256"]:
        raise ValueError("state.pt: its sha256 is not the one that was written with it")
    state = torch.load(state_file, map_location=device, weights_only=True)
    assert isinstance(state, dict)
    return state


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear(path: Path) -> None:
    """Delete a folder so that a half-deleted one never passes for a checkpoint."""
    if not path.exists():
        return
    doomed = path.with_name(f"{path.name}.deleted")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
