"""Values of an optimizer that differ by schedule: `learning_rate: {default: 0.04, contest: 0.02}`.

What is best depends on the batch and on the number of steps, so that a value that was found with
one schedule says little about another.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramengpt.config.base import ConfigError
from ramengpt.config.messages import nearest
from ramengpt.errors import shortened, shown

DEFAULT = "default"
"""The key of the value for schedules that are not named."""


def schedules_with_values(raw: Mapping[str, Any]) -> list[str]:
    """All schedules for which an optimizer has a value of its own, whether they exist or not."""
    named = {
        key
        for entry in _entries(raw).values()
        for value in entry.values()
        if isinstance(value, Mapping) and DEFAULT in value
        for key in value
        if key != DEFAULT
    }
    return sorted(map(str, named))


def with_values_of_schedule(raw: Mapping[str, Any], schedule: Any, path: Path) -> dict[str, Any]:
    """Copy a params file's values, with optimizers' values those of a schedule.

    Raises:
        ConfigError: a value names a schedule that is not in `schedules`, or has no default.
    """
    schedules = raw.get("schedules")
    if not isinstance(schedules, Mapping):  # which is an error of its own
        schedules = dict.fromkeys(schedules_with_values(raw))
    filled = {
        name: dict(entry)
        | {
            key: _picked(
                value, schedule, schedules, f"{path}: {shortened(f'optimizers.{name}.{key}')}"
            )
            for key, value in entry.items()
            if isinstance(value, Mapping)
        }
        for name, entry in _entries(raw).items()
    }
    return dict(raw) | ({"optimizers": dict(raw["optimizers"]) | filled} if filled else {})


def _entries(raw: Mapping[str, Any]) -> dict[Any, Mapping[Any, Any]]:
    optimizers = raw.get("optimizers")
    table = optimizers if isinstance(optimizers, Mapping) else {}
    return {name: entry for name, entry in table.items() if isinstance(entry, Mapping)}


def _picked(
    value: Mapping[Any, Any], schedule: Any, schedules: Mapping[str, Any], where: str
) -> Any:
    if value.keys().isdisjoint([DEFAULT, *schedules]):
        return value
    for name in value:
        if name != DEFAULT and name not in schedules:
            hint = nearest("", str(name), [DEFAULT, *schedules])
            raise ConfigError(f"{where}: {shown(name)} is not in schedules{hint}")
    if DEFAULT not in value:
        raise ConfigError(f"{where}: expected a key {DEFAULT}, for all other schedules")
    return value[schedule if isinstance(schedule, str) and schedule in value else DEFAULT]
