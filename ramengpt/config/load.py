"""Read params.yaml, apply overrides, check everything, and pick what the selectors name.

Everything is checked before any work, the entries that are not selected too, so that a mistake
costs a second rather than the outputs of the last run.
"""

import difflib
import functools
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ramengpt.config.base import ConfigError, Section, nearest
from ramengpt.config.dataset import DatasetConfig, DownloadConfig, ReadingConfig
from ramengpt.config.hooks import HooksConfig
from ramengpt.config.model import (
    ArchitectureConfig,
    ModelConfig,
    NetworkConfig,
    ParametersConfig,
)
from ramengpt.config.optimizer import (
    AdamConfig,
    GradientClippingConfig,
    MomentumConfig,
    OptimizerConfig,
    PolarConfig,
)
from ramengpt.config.run import TrainConfig, ValidationConfig
from ramengpt.config.sample import SampleConfig
from ramengpt.config.schedule import ScheduleConfig
from ramengpt.config.shared_blocks import is_in_shared_block, with_shared_blocks
from ramengpt.config.tracking import TrackingConfig

PARAMS_FILE = Path("params.yaml")
SELECTORS = {
    "dataset": "datasets",
    "model": "models",
    "architecture": "architectures",
    "optimizer": "optimizers",
    "schedule": "schedules",
}


class ParamsFile(Section):
    """The whole of params.yaml: selectors, the tables they name entries of, and sections."""

    dataset: str
    model: str
    architecture: str
    optimizer: str
    schedule: str
    seed: int = Field(ge=0, lt=2**32)
    datasets: dict[str, DatasetConfig]
    reading: dict[str, ReadingConfig]
    download: DownloadConfig
    models: dict[str, ModelConfig]
    architectures: dict[str, ArchitectureConfig]
    parameters: ParametersConfig
    optimizers: dict[str, OptimizerConfig]
    momentum_schedules: dict[str, MomentumConfig]
    polynomials: dict[str, PolarConfig]
    embedding_adam: AdamConfig
    scalar_adam: AdamConfig
    gradient_clipping: GradientClippingConfig
    hooks: HooksConfig
    schedules: dict[str, ScheduleConfig]
    train: TrainConfig
    validation: ValidationConfig
    tracking: TrackingConfig
    sample: SampleConfig


@dataclass(frozen=True)
class Config:
    """What one run uses: the selected entry of each table, and its name."""

    dataset_name: str
    dataset: DatasetConfig
    reading: ReadingConfig
    model_name: str
    model: ModelConfig
    architecture_name: str
    architecture: ArchitectureConfig
    parameters: ParametersConfig
    optimizer_name: str
    optimizer: OptimizerConfig
    embedding_adam: AdamConfig
    scalar_adam: AdamConfig
    gradient_clipping: GradientClippingConfig
    hooks: HooksConfig
    schedule_name: str
    schedule: ScheduleConfig
    seed: int
    download: DownloadConfig
    train: TrainConfig
    validation: ValidationConfig
    tracking: TrackingConfig
    sample: SampleConfig

    @functools.cached_property
    def network(self) -> NetworkConfig:
        """The selected model with the parts of the selected architecture."""
        return NetworkConfig.of(self.model, self.architecture)


def load_config(overrides: Sequence[str] = (), path: Path = PARAMS_FILE) -> Config:
    """Read and check a params file.

    Args:
        overrides: ``key.path=value`` each, the value in YAML; only a last key that a section may
            leave out can be new.
        path: the file.

    Returns:
        What the selectors pick.

    Raises:
        ConfigError: with a line for every key that is wrong: what was expected, what was found.
    """
    raw = _read_yaml(path)
    for override in overrides:
        _apply_override(raw, override)
    filled = with_shared_blocks(raw, path)
    try:
        params = ParamsFile.model_validate(filled)
    except ValidationError as error:
        by_key = itertools.groupby(
            error.errors(), key=lambda detail: _keys_in_file(detail["loc"], filled)
        )
        lines = [
            _describe(location, list(details))
            for location, details in by_key
            if not is_in_shared_block(location, raw)
        ]
        raise ConfigError(f"\n{' ' * 7}".join(f"{path}: {line}" for line in lines)) from None
    return _select(params, path)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: not found in {Path.cwd()}; run this from the project's folder"
        ) from None
    try:
        raw = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(raw).__name__}")
    return raw


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r}: expected key=value")
    *parents, last = key.split(".")
    section: Any = raw
    for depth, name in enumerate([*parents, last]):
        may_be_left_out = depth == len(parents) and name in _all_keys(Section)
        if not isinstance(section, Mapping) or (name not in section and not may_be_left_out):
            known = section if isinstance(section, Mapping) else ()
            prefix = "".join(f"{parent}." for parent in parents[:depth])
            hint = nearest(prefix, name, known)
            raise ConfigError(f"override {override!r}: no key {name!r}{hint}")
        if depth < len(parents):
            section = section[name]
    try:
        section[last] = YAML(typ="safe", pure=True).load(io.StringIO(text))
    except YAMLError:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from None


def _select(params: ParamsFile, path: Path) -> Config:
    picked: dict[str, Any] = {"reading": _entry(params, "dataset", "reading", path)}
    for selector, table_name in SELECTORS.items():
        entry = _entry(params, selector, table_name, path)
        picked |= {f"{selector}_name": getattr(params, selector), selector: entry}
    rest = {field.name for field in fields(Config)} - picked.keys()
    config = Config(**picked, **{name: getattr(params, name) for name in rest})
    try:
        _ = config.network
    except ValidationError as error:
        reason = error.errors()[0]["ctx"]["error"]
        raise ConfigError(
            f"{path}: models.{config.model_name} with architectures.{config.architecture_name}: "
            f"{reason}"
        ) from None
    return _with_own_values(config)


def _entry(params: ParamsFile, selector: str, table_name: str, path: Path) -> Section:
    """The entry of a table that a selector names."""
    name, table = getattr(params, selector), getattr(params, table_name)
    if name not in table:
        raise ConfigError(
            f"{path}: {selector}: {name!r} is not in {table_name}{nearest('', name, table)}"
        )
    entry: Section = table[name]
    return entry


def _with_own_values(config: Config) -> Config:
    """Let the selected optimizer's own warm-up and rates take the place of the shared ones."""
    own = config.optimizer
    schedule, embedding, scalar = config.schedule, config.embedding_adam, config.scalar_adam
    if own.warmup_steps is not None:
        values = schedule.model_dump()
        values["learning_rate"]["warmup_steps"] = own.warmup_steps
        try:
            schedule = ScheduleConfig.model_validate(values)
        except ValidationError as error:
            reason = error.errors()[0]["ctx"]["error"]
            key = f"optimizers.{config.optimizer_name}.warmup_steps"
            raise ConfigError(f"{key}, with schedules.{config.schedule_name}: {reason}") from None
    if own.embedding_learning_rate is not None:
        embedding = embedding.model_copy(update={"learning_rate": own.embedding_learning_rate})
    if own.scalar_learning_rate is not None:
        scalar = scalar.model_copy(update={"learning_rate": own.scalar_learning_rate})
    return replace(config, schedule=schedule, embedding_adam=embedding, scalar_adam=scalar)


def _describe(location: Sequence[int | str], details: Sequence[ErrorDetails]) -> str:
    """One line for pydantic's findings about a key: what is expected, what was found.

    There are several where a value may be of several types and is of none.
    """
    key = ".".join(str(part) for part in location)
    detail = details[0]
    found = detail["input"]
    match detail["type"]:
        case "missing":
            return f"{key}: missing"
        case "extra_forbidden":
            near = difflib.get_close_matches(str(location[-1]), _all_keys(Section), n=1)
            return f"{key}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
        case "value_error":
            return f"{key}: {detail['ctx']['error']}" if key else str(detail["ctx"]["error"])
        case _:
            hint = ""
            if isinstance(found, str) and "valid string" not in detail["msg"]:
                hint = " (a string; write numbers without quotes, small ones as 0.001)"
            expected = " or ".join(
                each["msg"].removeprefix("Input should be ").removeprefix("a valid ")
                for each in details
            )
            return f"{key}: expected {expected}, found {found!r}{hint}"


def _keys_in_file(location: tuple[int | str, ...], raw: Any) -> list[int | str]:
    """Drop from pydantic's location the tags of unions, which the file does not hold."""
    keys: list[int | str] = []
    for position, part in enumerate(location):
        is_key = isinstance(raw, Mapping) and part in raw
        if is_key or (isinstance(raw, list) and isinstance(part, int)):
            raw = raw[part]
        elif position < len(location) - 1 or not isinstance(raw, Mapping):
            continue
        keys.append(part)
    return keys


def _all_keys(section: type[Section]) -> set[str]:
    keys = set(section.model_fields)
    for subclass in section.__subclasses__():
        keys |= _all_keys(subclass)
    return keys
