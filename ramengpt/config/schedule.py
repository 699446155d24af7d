"""The `schedules` section: what changes during a run, and when.

A run has `scheduled_steps`, which the fractions divide, and then `extension_steps` at the final
settings. A fraction of 1 is the first extension step.
"""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ramengpt.config.base import Fraction, Section, Steps, StepsOrNone, Tokens

WINDOW_BLOCK_TOKENS = 128

Stages = Annotated[list[Fraction], Field(max_length=1000)]
MicroBatches = Annotated[int, Field(gt=0, le=10_000)]


def check_stages(fractions: list[float], values: list[int], key: str) -> None:
    """Check that stages start at 0, in order, with one value each.

    Raises:
        ValueError: they do not; the message names `fractions` and `key`.
    """
    if len(fractions) != len(values) or not fractions:
        raise ValueError(
            f"fractions and {key} must have the same length, at least 1, "
            f"found {len(fractions)} and {len(values)}"
        )
    if fractions[0] != 0 or any(later <= earlier for earlier, later in pairwise(fractions)):
        raise ValueError(f"fractions must start at 0 and increase, found {fractions}")


class StagedSchedule(Section):
    """Values from each fraction on: every list of a section has one for each."""

    fractions: Stages

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        for key, values in self:
            if key != "fractions" and isinstance(values, list):
                check_stages(self.fractions, values, key)
        return self


class BatchSchedule(StagedSchedule):
    """Micro-batches of a step, at each fraction; `shape` says how to go from one to the next."""

    shape: Literal["stepped", "linear", "cosine", "exponential"]
    micro_batches: list[MicroBatches]


class WindowSchedule(StagedSchedule):
    """Attention window from each fraction on, and the one of validation."""

    tokens: list[Tokens]
    validation_tokens: Tokens

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        for tokens in [*self.tokens, self.validation_tokens]:
            if tokens % WINDOW_BLOCK_TOKENS:
                raise ValueError(
                    f"a window must be a multiple of {WINDOW_BLOCK_TOKENS}, found {tokens}"
                )
        return self


class SequenceSchedule(StagedSchedule):
    """Longest sequence from each fraction on."""

    tokens: list[Tokens]


class LearningRateSchedule(Section):
    """Warm-up, plateau and cooldown; the top grows with (batch / first batch) ^ batch_exponent."""

    warmup_steps: StepsOrNone
    cooldown_shape: Literal["linear", "cosine", "exponential"]
    cooldown_fraction: Fraction
    floor: Fraction
    batch_exponent: Fraction

    @model_validator(mode="after")
    def _exponential_needs_a_floor(self) -> Self:
        if self.cooldown_shape == "exponential" and self.floor == 0:
            raise ValueError("floor must be above 0 when cooldown_shape is exponential")
        return self


class ExtraLossSchedule(StagedSchedule):
    """Weights of the losses other than the next token's, linear between the fractions."""

    second_token: Stages
    third_token: Stages
    prefix: Stages


class ScheduleConfig(Section):
    """One entry of `schedules`."""

    micro_batch_tokens: Tokens
    scheduled_steps: Steps
    extension_steps: StepsOrNone
    batch: BatchSchedule
    window: WindowSchedule
    sequence: SequenceSchedule
    learning_rate: LearningRateSchedule
    embedding_split_fraction: Fraction
    extra_losses: ExtraLossSchedule
    scalar_freeze_steps: StepsOrNone

    @model_validator(mode="after")
    def _micro_batch_holds_a_sequence(self) -> Self:
        longest = max(self.sequence.tokens)
        if self.micro_batch_tokens % WINDOW_BLOCK_TOKENS or self.micro_batch_tokens < longest:
            raise ValueError(
                f"micro_batch_tokens must be a multiple of {WINDOW_BLOCK_TOKENS} and at least the "
                f"longest sequence, {longest}, found {self.micro_batch_tokens}"
            )
        return self

    @model_validator(mode="after")
    def _warmup_ends_before_cooldown(self) -> Self:
        cooldown_steps = round(self.learning_rate.cooldown_fraction * self.scheduled_steps)
        if self.learning_rate.warmup_steps + cooldown_steps > self.scheduled_steps:
            raise ValueError(
                "learning_rate.warmup_steps + the cooldown must fit into scheduled_steps "
                f"({self.scheduled_steps}), found {self.learning_rate.warmup_steps} "
                f"+ {cooldown_steps}"
            )
        return self
