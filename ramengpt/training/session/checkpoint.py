"""Checkpoints of a whole run: everything that decides what comes next, written whole or not at all.

Each run has one folder, named after its fingerprint, outside DVC's outputs (DVC deletes those
before a stage starts):

    <folder>/step-00000100/state.pt         tensors and plain values, by torch.save
    <folder>/step-00000100/checkpoint.json  the run's name, bytes and sha256 of state.pt
    <folder>/run.json                       the values, code and data of the run
    <folder>/run.lock                       held by the process that writes here

A checkpoint is written under a temporary name, flushed, and renamed, so a kill at any moment leaves
the earlier checkpoints intact.
"""

import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ramengpt.errors import UserError
from ramengpt.files import flush_folder, write_bytes

STEP_FOLDER = re.compile(r"step-(\d{8})")


UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, pickle.UnpicklingError)
"""What reading a damaged checkpoint may raise."""


class CheckpointError(UserError):
    """A checkpoint that could not be written, or that belongs to another run."""


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: named after the run; made if missing.
        kept: how many of the newest checkpoints to keep.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path, kept: int) -> None:
        self.folder = folder
        self.kept = kept
        folder.mkdir(parents=True, exist_ok=True)

    def describe(self, inputs: Mapping[str, Any]) -> None:
        """Record what the run depends on, so that one can tell later whether it can resume."""
        write_bytes(self.folder / "run.json", (json.dumps(inputs, indent=1) + "\n").encode())

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints here, oldest first."""
        names = (STEP_FOLDER.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> Path:
        """Folder of the checkpoint taken after ``step`` steps."""
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write one checkpoint, then delete those too old to keep, and any of a later step.

        Later checkpoints were unreadable (otherwise the run would have resumed from them).

        Args:
            step: number of steps done.
            state: tensors and plain Python values, nested in dicts and lists.

        Returns:
            The checkpoint's folder.

        Raises:
            CheckpointError: a full disk or another write error; older checkpoints are untouched.
        """
        partial = self.folder / f"step-{step:08d}.part"
        try:
            _clear(partial)
            partial.mkdir()
            _write_state(partial, state, run=self.folder.name)
            _clear(self.path(step))
            partial.rename(self.path(step))
            flush_folder(self.folder)
        except (OSError, RuntimeError) as error:
            # torch.save reports a full disk as a RuntimeError from its zip writer.
            shutil.rmtree(partial, ignore_errors=True)
            newest = self.steps()
            intact = f"the one of step {newest[-1]} is intact" if newest else "there is none yet"
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {step} could not be written "
                f"({_first_line(error)}); earlier checkpoints: {intact}. "
                "Free some disk space, then run the same command again to resume"
            ) from error
        until_here = [earlier for earlier in self.steps() if earlier <= step]
        for unwanted in set(self.steps()) - set(until_here[-self.kept :]):
            _clear(self.path(unwanted))
        return self.path(step)

    def load_newest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """Read the newest checkpoint that is whole.

        Returns:
            The state, its tensors in host memory (None if no checkpoint is readable), and a line
            for each newer one that was skipped, with the reason.

        Raises:
            CheckpointError: the newest belongs to another run.
        """
        skipped: list[str] = []
        for step in reversed(self.steps()):
            path = self.path(step)
            try:
                return _read_state(path, run=self.folder.name), skipped
            except CheckpointError:
                raise
            except UNREADABLE as error:
                skipped.append(f"{path}: skipped, {_first_line(error)}")
        return None, skipped

    def remove(self) -> None:
        """Delete all checkpoints, once the run is complete and its outputs are written."""
        for folder in sorted(self.folder.iterdir()):  # the newest checkpoint last
            if folder.is_dir():
                _clear(folder)
        (self.folder / "run.json").unlink(missing_ok=True)


def _write_state(folder: Path, state: dict[str, Any], run: str) -> None:
    state_file = folder / "state.pt"
    torch.save(state, state_file)
    _flush(state_file)
    about = {"run": run, "bytes": state_file.stat().st_size, "sha256": _sha256(state_file)}
    write_bytes(folder / "checkpoint.json", (json.dumps(about) + "\n").encode())
    flush_folder(folder)


def _read_state(folder: Path, run: str) -> dict[str, Any]:
    about = json.loads((folder / "checkpoint.json").read_text())
    if about["run"] != run:
        raise CheckpointError(
            f"{folder}: expected a checkpoint of the run {run}, found one of {about['run']}; "
            "delete it to train without it"
        )
    state_file = folder / "state.pt"
    found_bytes = state_file.stat().st_size
    if found_bytes != about["bytes"]:
        raise ValueError(f"state.pt: expected {about['bytes']} bytes, found {found_bytes}")
    if _sha256(state_file) != about["sha256"]:
        raise ValueError("state.pt: its sha256 is not the one that was written with it")
    state = torch.load(state_file, map_location="cpu", weights_only=True)
    assert isinstance(state, dict)
    return state


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _clear(path: Path) -> None:
    """Delete a folder; renaming it first keeps a half-deleted one from passing for a checkpoint."""
    if not path.exists():
        return
    doomed = path.with_name(f"{path.name}.deleted")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
