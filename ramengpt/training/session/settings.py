"""The values that decide a run's result, and the steps that follow from them."""

from dataclasses import dataclass, fields
from typing import Any

from ramengpt.config import Config
from ramengpt.config.base import Section
from ramengpt.training.schedule.plan import StepPlan, plan_run

FREE_SECTIONS = {"download", "sample", "tracking"}
"""Sections of params.yaml that do not affect what is trained."""


@dataclass(frozen=True)
class RunOptions:
    """What the command line and the environment add to params.yaml.

    Attributes:
        micro_batch_splits: how many equal parts each of the schedule's micro-batches is split into.
        early_stop_steps: end after this many steps of the same schedule; None runs all of them.
    """

    micro_batch_splits: int
    early_stop_steps: int | None


def run_settings(config: Config, options: RunOptions) -> dict[str, Any]:
    """Every value that decides a run's result, JSON-ready."""
    values = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.name not in FREE_SECTIONS
    }
    settings = {
        name: value.model_dump(mode="json") if isinstance(value, Section) else value
        for name, value in values.items()
    }
    # How often to save does not change what is trained.
    settings["train"] = {
        key: value for key, value in settings["train"].items() if "checkpoint" not in key
    }
    return settings | {
        "micro_batch_splits": options.micro_batch_splits,
        "early_stop_steps": options.early_stop_steps,
    }


def plans_of(config: Config, options: RunOptions) -> tuple[StepPlan, ...]:
    """The steps of a run."""
    plans = plan_run(config.schedule, config.optimizer.momentum, options.micro_batch_splits)
    return plans[: options.early_stop_steps]
