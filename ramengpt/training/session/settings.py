"""The values that decide a run's result, and the steps that follow from them."""

from dataclasses import dataclass, fields
from typing import Any

from ramengpt.config import Config
from ramengpt.config.base import Section
from ramengpt.training.schedule.plan import StepPlan, plan_run
from ramengpt.training.schedule.run_steps import NO_STOP_RULES, StopRules

FREE_SECTIONS = {"download", "sample", "tracking"}
"""Sections of params.yaml that do not affect what is trained."""
FREE_TRAIN_KEYS = {
    "checkpoint_every_steps",
    "checkpoints_kept",
    "micro_batch_tokens",
    "recompute_activations",
}
"""Keys of `train` of the same kind. The last two change the order of sums, as another card does."""


@dataclass(frozen=True)
class RunOptions:
    """What the command line and the environment add to params.yaml.

    Attributes:
        early_stop_steps: end after this many steps of the same schedule; None runs all of them.
        slice_sequences: longest sequences in one pass through the network; replaces
            `train.micro_batch_tokens`. None without BATCH_SIZE_MULTIPLE.
        stop_rules: what else ends the run.
    """

    early_stop_steps: int | None
    slice_sequences: int | None
    stop_rules: StopRules = NO_STOP_RULES


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
    settings["train"] = {
        key: value for key, value in settings["train"].items() if key not in FREE_TRAIN_KEYS
    }
    return settings | {
        "early_stop_steps": options.early_stop_steps,
        "stop_at_loss": options.stop_rules.at_loss,
        "stop_after_seconds": options.stop_rules.after_seconds,
    }


def plans_of(config: Config, options: RunOptions) -> tuple[StepPlan, ...]:
    """The steps of a run."""
    plans = plan_run(config.schedule, config.optimizer.momentum)
    return plans[: options.early_stop_steps]
