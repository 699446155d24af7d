"""Blocks that several optimizers share: an optimizer's entry may name one instead of its values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ramengpt.config.base import ConfigError
from ramengpt.config.messages import nearest
from ramengpt.config.optimizer_blocks import SHARED_BLOCKS
from ramengpt.errors import shown


def with_shared_blocks(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Copy a params file's values, with the names of shared blocks replaced by their values.

    Raises:
        ConfigError: the table has no block of that name.
    """
    optimizers = raw.get("optimizers")
    if not isinstance(optimizers, Mapping):
        return dict(raw)
    filled = dict(optimizers)
    for name, entry in optimizers.items():
        for block, table_name in SHARED_BLOCKS.items():
            table = raw.get(table_name)
            if _is_name(entry, block) and isinstance(table, Mapping):
                if entry[block] not in table:
                    raise ConfigError(
                        f"{path}: optimizers.{name}.{block}: {shown(entry[block])} is not in "
                        f"{table_name}{nearest('', entry[block], table)}"
                    )
                filled[name] = dict(filled[name]) | {block: table[entry[block]]}
    return dict(raw) | {"optimizers": filled}


def _is_name(entry: Any, block: str) -> bool:
    """Whether an optimizer names a shared block (rather than having its own values)."""
    return isinstance(entry, Mapping) and isinstance(entry.get(block), str)


def is_in_shared_block(location: Sequence[int | str], raw: Mapping[str, Any]) -> bool:
    """Whether an error lies in a shared block; it is reported once, in the block's table."""
    match location:
        case ["optimizers", name, str(block), *_] if block in SHARED_BLOCKS:
            return _is_name(raw["optimizers"][name], block)
        case _:
            return False
