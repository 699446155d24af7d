"""Read params.yaml, apply overrides, check everything, and pick what the selectors name.

Everything is checked before any work, including entries that are not selected, so a mistake costs a
second rather than the outputs of the last run.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ramengpt.config.architecture import ArchitectureConfig
from ramengpt.config.base import ConfigError, Section, Seed
from ramengpt.config.by_schedule import schedules_with_values, with_values_of_schedule
from ramengpt.config.dataset import DatasetConfig, DownloadConfig, ReadingConfig
from ramengpt.config.hooks import HooksConfig
from ramengpt.config.messages import all_keys, describe, keys_in_file, nearest
from ramengpt.config.model import ModelConfig, NetworkConfig
from ramengpt.config.optimizer import OptimizerConfig
from ramengpt.config.optimizer_blocks import (
    AdamConfig,
    BasisConfig,
    GradientClippingConfig,
    MomentumConfig,
    PolarConfig,
)
from ramengpt.config.parameters import ParametersConfig
from ramengpt.config.parse import parse_yaml, read_yaml
from ramengpt.config.run import TrainConfig, ValidationConfig
from ramengpt.config.sample import SampleConfig
from ramengpt.config.schedule import WINDOW_BLOCK_TOKENS, ScheduleConfig
from ramengpt.config.shared_blocks import is_in_shared_block, with_shared_blocks
from ramengpt.config.tracking import TrackingConfig
from ramengpt.errors import shown

PARAMS_FILE = Path("params.yaml")
MOST_LINES = 10
"""How many wrong keys are reported at once."""
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
    seed: Seed
    datasets: dict[str, DatasetConfig]
    reading: dict[str, ReadingConfig]
    download: DownloadConfig
    models: dict[str, ModelConfig]
    architectures: dict[str, ArchitectureConfig]
    parameters: ParametersConfig
    optimizers: dict[str, OptimizerConfig]
    momentum_schedules: dict[str, MomentumConfig]
    polynomials: dict[str, PolarConfig]
    bases: dict[str, BasisConfig]
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
        overrides: ``key.path=value`` each, the value in YAML; a key that is not in the file must be
            one that its section can have.
        path: the file.

    Returns:
        What the selectors pick.

    Raises:
        ConfigError: with one line per wrong key: what was expected, what was found.
    """
    raw = read_yaml(path)
    for override in overrides:
        _apply_override(raw, override)
    for schedule in (*schedules_with_values(raw), raw.get("schedule")):  # the selected one is last
        params = _checked(with_values_of_schedule(raw, schedule, path), path)
    return _select(params, path)


def _checked(raw: dict[str, Any], path: Path) -> ParamsFile:
    """All values of a params file, each with its type and in its range."""
    filled = with_shared_blocks(raw, path)
    try:
        return ParamsFile.model_validate(filled)
    except ValidationError as error:
        by_key = itertools.groupby(
            error.errors(), key=lambda detail: keys_in_file(detail["loc"], filled)
        )
        lines = [
            f"{path}: {describe(location, list(details))}"
            for location, details in by_key
            if not is_in_shared_block(location, raw)
        ]
        more = [f"and {len(lines) - MOST_LINES:,} more"] if len(lines) > MOST_LINES else []
        raise ConfigError(f"\n{' ' * 7}".join(lines[:MOST_LINES] + more)) from None


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"override {shown(override)}: expected key=value")
    *parents, last = key.split(".")
    section: Any = raw
    for depth, name in enumerate([*parents, last]):
        may_be_left_out = depth == len(parents) and name in all_keys(Section)
        if not isinstance(section, Mapping) or (name not in section and not may_be_left_out):
            known = section if isinstance(section, Mapping) else ()
            prefix = "".join(f"{parent}." for parent in parents[:depth])
            hint = nearest(prefix, name, known)
            raise ConfigError(f"override {shown(override)}: no key {shown(name)}{hint}")
        if depth < len(parents):
            section = section[name]
    section[last] = parse_yaml(text, f"override {shown(override)}")


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
    _check_micro_batch(config, path)
    return _with_values_of_optimizer(_with_values_of_architecture(config))


def _check_micro_batch(config: Config, path: Path) -> None:
    """A micro-batch holds the longest sequence, in whole blocks, as those of schedules do."""
    tokens, longest = config.train.micro_batch_tokens, max(config.schedule.sequence.tokens)
    if tokens != "auto" and (tokens < longest or tokens % WINDOW_BLOCK_TOKENS):
        raise ConfigError(
            f"{path}: train.micro_batch_tokens: expected auto or a multiple of "
            f"{WINDOW_BLOCK_TOKENS}, at least the longest sequence of "
            f"schedules.{config.schedule_name}, {longest}, found {tokens}"
        )


def _entry(params: ParamsFile, selector: str, table_name: str, path: Path) -> Section:
    """The entry of a table that a selector names."""
    name, table = getattr(params, selector), getattr(params, table_name)
    if name not in table:
        hint = nearest("", name, table)
        raise ConfigError(f"{path}: {selector}: {shown(name)} is not in {table_name}{hint}")
    entry: Section = table[name]
    return entry


def _with_values_of_architecture(config: Config) -> Config:
    """Let the selected architecture's own numbers take the place of those of `parameters`."""
    own = config.architecture.parameters or {}
    return replace(config, parameters=config.parameters.with_own(own))


def _with_values_of_optimizer(config: Config) -> Config:
    """Replace the shared warm-up and rates by those of the selected optimizer, where it has any."""
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
