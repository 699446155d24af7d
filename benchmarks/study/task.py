"""What every run of a study trains, whatever its arm (network, data, batch, tokens), and seeds."""

import hashlib
import json
from dataclasses import dataclass

from ramengpt.data.shards.manifest import MANIFEST_PATH
from ramengpt.errors import UserError

VALIDATIONS = 10
"""Held-out losses of a run that is evaluated; trials have the last one only."""
SELECTION_SEED = 1001
"""Of every trial, so that trials differ only by their values."""
FIRST_EVALUATION_SEED = 3001
"""Evaluation seeds count up from here; each draws the initial weights and the order of the data."""


@dataclass(frozen=True)
class Task:
    """A fixed amount of training.

    Attributes:
        model: entry of `models`, and of `schedules`.
        steps: in all.
        settings: `key=value` each, beside the number of steps.
    """

    model: str
    steps: int
    settings: tuple[str, ...]

    def lasting(self, times: int) -> tuple[str, ...]:
        """The settings of a run `times` as long; a sixteenth of its steps are at the last rate."""
        steps = self.steps * times
        extension = steps // 16
        return (
            f"model={self.model}",
            f"schedule={self.model}",
            f"schedules.{self.model}.scheduled_steps={steps - extension}",
            f"schedules.{self.model}.extension_steps={extension}",
            *self.settings,
        )

    def validated(self, times: int, often: bool) -> str:
        """The setting that validates along the run, or only at its end."""
        steps = self.steps * times
        every = max(1, steps // VALIDATIONS) if often else steps
        return f"validation.every_steps={every}"


def _schedule(model: str, *settings: str) -> tuple[str, ...]:
    return tuple(f"schedules.{model}.{setting}" for setting in settings)


def _on_text(model: str) -> tuple[str, ...]:
    return (
        "dataset=text",
        "reading.text.order=shuffled",
        "validation.tokens=1048576",
        "tracking.wandb=disabled",
        "train.checkpoint_every_steps=0",
        *_schedule(
            model,
            "batch.fractions=[0.0]",
            "sequence.fractions=[0.0]",
            "sequence.tokens=[2048]",
            "learning_rate.cooldown_fraction=0.6",
        ),
    )


TASKS = {
    # 10.5 million tokens, in batches of 32,768.
    "base": Task(
        "base",
        320,
        (
            *_on_text("base"),
            *_schedule("base", "micro_batch_tokens=32768", "batch.micro_batches=[1]"),
        ),
    ),
    # 41.9 million tokens, in batches of 131,072.
    "small": Task(
        "small",
        320,
        (
            *_on_text("small"),
            *_schedule("small", "micro_batch_tokens=32768", "batch.micro_batches=[4]"),
        ),
    ),
    # 655,360 tokens of docstrings, for two CPU cores.
    "instant": Task(
        "instant",
        320,
        (
            "dataset=docstrings",
            "reading.docstrings.order=shuffled",
            "validation.tokens=65536",
            "tracking.wandb=disabled",
            "train.checkpoint_every_steps=0",
        ),
    ),
}


def evaluation_seeds(count: int) -> tuple[int, ...]:
    """The first seeds of evaluations, none of which has chosen anything."""
    return tuple(range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + count))


def data_checksum() -> str:
    """One checksum of all shards that the runs read, 16 hexadecimal digits.

    Raises:
        UserError: there is no manifest.
    """
    try:
        shards = json.loads(MANIFEST_PATH.read_text())["shards"]
        text = "".join(f"{shard['file']} {shard['sha256']}\n" for shard in shards)
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"{MANIFEST_PATH}: it lists no shards; select the data set in params.yaml, then run "
            "python -m pipeline.download, pipeline.verify and pipeline.index"
        ) from None
    return hashlib.sha256(text.encode()).hexdigest()[:16]
