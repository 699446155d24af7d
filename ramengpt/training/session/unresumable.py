"""List the checkpoints that no run can resume from.

A killed run finds its checkpoints by its values, code and data. Once the code has changed, no run
can resume from them unless the edit is undone. Training lists them too when it starts.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ramengpt.cli import command_parser, run_main
from ramengpt.source_code import stage_code
from ramengpt.training.session.folders import stage_folders
from ramengpt.training.session.lock import is_locked

RUN_FILE = "run.json"
COMMAND = "ramengpt unresumable"


@dataclass(frozen=True)
class UnresumableRun:
    """Checkpoints of a run that cannot be resumed.

    Attributes:
        folder: of the run.
        bytes: its size on disk.
        reason: what has changed since the run.
    """

    folder: Path
    bytes: int
    reason: str

    def __str__(self) -> str:
        return f"{self.folder}: {self.bytes / 1e6:.0f} MB; {self.reason}"


def unresumable_runs(checkpoints: Path) -> list[UnresumableRun]:
    """Look through the folder of all runs' checkpoints, except those in progress."""
    return list(_unresumable(checkpoints))


def _unresumable(checkpoints: Path) -> Iterator[UnresumableRun]:
    for folder in sorted(checkpoints.glob("*/")):
        if not any(folder.glob("step-*")) or is_locked(folder):
            continue
        reason = _reason(folder)
        if reason:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            yield UnresumableRun(folder, size, reason)


def _reason(folder: Path) -> str:
    """Why a run cannot be resumed; empty if it can."""
    try:
        run = json.loads((folder / RUN_FILE).read_text())
        code, rule = run["code"], run["settings"]["optimizer"]["rule"]
        now = stage_code("train", rule)
    except (OSError, ValueError, KeyError, TypeError):
        return f"{RUN_FILE} is missing or from another version"
    changed = [file for file in dict.fromkeys([*code, *now]) if code.get(file) != now.get(file)]
    return f"{changed[0]} has changed since" if changed else ""


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    flags = command_parser("ramengpt.training.session.unresumable", __doc__)
    flags.add_argument("--remove", action="store_true", help="delete them")
    flags.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="DIR",
        help="checkpoints of a scratch run (default: those of the pipeline)",
    )
    return flags


def main() -> None:
    """List them; delete them if asked to."""
    arguments = parser().parse_args()
    for run in unresumable_runs(arguments.folder or stage_folders().checkpoints):
        if arguments.remove:
            shutil.rmtree(run.folder)
        sys.stdout.write(f"{'removed ' if arguments.remove else ''}{run}\n")


if __name__ == "__main__":
    run_main(main)
