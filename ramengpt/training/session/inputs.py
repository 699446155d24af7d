"""Everything that decides a run's result: values, code and data. Its digest names the checkpoints.

DVC hashes a stage's dependencies when the stage has ended, so an edit made while it ran would be
recorded as what ran. The stage therefore compares its inputs at the end with those at its start,
and fails if they differ.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ramengpt.config import Config
from ramengpt.config.optimizer_blocks import SHARED_BLOCKS
from ramengpt.errors import UserError
from ramengpt.training.session.settings import RunOptions, run_settings

CHECKED_CODE = Path("data/code/train.json")
"""Digests of this stage's code, written by stage `check`; DVC records these as the run's code."""
CHECKED_BLOCKS = Path("data/optimizer_blocks.json")
"""Shared blocks of the selected optimizer, written by stage `check`; DVC records these too."""


@dataclass(frozen=True)
class RunInputs:
    """What a run's result follows from.

    Attributes:
        settings: the selected values of params.yaml and the options of this run, JSON-ready.
        code: file -> digest of its code.
        data: file -> sha256, of the manifest and the index, which pin down the shards.
    """

    settings: dict[str, Any]
    code: dict[str, str]
    data: dict[str, str]

    def fingerprint(self) -> str:
        """A short name of the run: 16 hexadecimal digits."""
        content = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def name(self) -> str:
        """What metrics.json calls the run: its optimizer and the start of its fingerprint."""
        return f"{self.settings['optimizer_name']}-{self.fingerprint()[:6]}"

    def differences(self, later: "RunInputs") -> list[str]:
        """Names of what differs: keys of params.yaml, then files."""
        return [
            *_different_keys(self.settings, later.settings),
            *_different_keys(self.code, later.code),
            *_different_keys(self.data, later.data),
        ]


def run_inputs(
    config: Config, options: RunOptions, code: dict[str, str], data_files: Iterable[Path]
) -> RunInputs:
    """Read all inputs as they are now.

    Args:
        config: the selected values.
        options: from the command line and the environment.
        code: of stage train.
        data_files: of its data.

    Raises:
        OSError: a data file cannot be read.
    """
    return RunInputs(
        json.loads(json.dumps(run_settings(config, options))),
        code,
        {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in data_files},
    )


def optimizer_blocks(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """Values that the selected optimizer may share with others by naming a block of params.yaml.

    The tables of blocks also hold those that it does not name. If DVC depended on the tables,
    editing one of those would rerun `train`.
    """
    return {block: optimizer[block] for block in SHARED_BLOCKS if block in optimizer}


def check_inputs_match_stage_check(inputs: RunInputs) -> None:
    """Refuse to start if an input was edited since stage `check` recorded it (where it ran at all).

    Raises:
        UserError: code or a shared block of the optimizer was edited since.
    """
    blocks = optimizer_blocks(inputs.settings["optimizer"])
    for file, now in ((CHECKED_CODE, inputs.code), (CHECKED_BLOCKS, blocks)):
        changed = _different_keys(json.loads(file.read_text()), now) if file.exists() else []
        if changed:
            raise UserError(
                f"{changed[0]}: changed since {file} was written; start with `dvc repro`, "
                "which runs stage check first"
            )


def check_nothing_changed(before: RunInputs, after: RunInputs, checkpoints: Path) -> None:
    """Refuse to record a run whose inputs were edited while it trained.

    Raises:
        UserError: says what changed, and how to finish the run nevertheless.
    """
    changed = before.differences(after)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"{changed[0]}{more} changed while this run trained, so that its outputs would be "
            "recorded under values they do not come from; they were not written. Undo the edit to "
            f"finish this run from {checkpoints}, or run the same command again to train with it"
        )


def _different_keys(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the values that differ."""
    names: list[str] = []
    for key in dict.fromkeys([*one, *other]):
        ours, theirs = one.get(key), other.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            names += _different_keys(ours, theirs, f"{prefix}{key}.")
        elif ours != theirs:
            names.append(f"{prefix}{key}")
    return names
