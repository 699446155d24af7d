"""Blocks that several optimizers share: in an entry their name stands in place of their values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ramengpt.config.base import ConfigError
from ramengpt.config.messages import nearest
from ramengpt.config.optimizer import SHARED_BLOCKS
from ramengpt.errors import shown


def with_shared_blocks(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Copy a params file's values, with the blocks that optimizers name in place of their names.

    Raises:
        ConfigError: the table of such blocks has no entry of that name.
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
    """Whether an optimizer names a shared block (rather than holding one of its own)."""
    return isinstance(entry, Mapping) and isinstance(entry.get(block), str)


def is_in_shared_block(location: Sequence[int | str], raw: Mapping[str, Any]) -> bool:
    """Whether an error lies in a block that an optimizer names; it is reported in its table."""
    match location:
        case ["optimizers", name, str(block), *_] if block in SHARED_BLOCKS:
            return _is_name(raw["optimizers"][name], block)
        case _:
            return False
