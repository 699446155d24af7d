"""The schedule of a run: step -> StepPlan, a pure function of the step and params.yaml.

A run has `scheduled_steps`, to which all fractions refer, followed by `extension_steps` at the
final settings: final batch, window and sequence length, the learning rate at its floor. The
extension and most of the shapes are modded-nanogpt's (train_gpt.py).

Nothing here needs torch or keeps state between steps, so a resumed run has nothing to restore.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ramengpt.config.optimizer_blocks import MomentumConfig
from ramengpt.config.schedule import (
    BatchSchedule,
    LearningRateSchedule,
    ScheduleConfig,
)


@dataclass(frozen=True)
class StepPlan:
    """Everything about a training step that the schedule decides.

    Attributes:
        step: from 0.
        run_steps: steps of the whole run.
        micro_batches: number of gradients accumulated.
        micro_batch_tokens: tokens in each.
        sequence_tokens: longest piece of a document.
        window_tokens: long attention window.
        learning_rate_multiplier: multiplies every group's learning rate.
        momentum: of the hidden matrices' optimizer.
        embedding_tied: embedding and head share one matrix.
        scalars_frozen: scalars and gates are not updated: a transition is less than
            `scalar_freeze_steps` steps ago.
        transition: batch stage, window, sequence or embedding_tied differ from the step before.
        tokens_before: tokens of all earlier steps.
        further_token_weights: of the losses of the second and the third token.
        prefix_weight: of the loss of the next token's prefix.
    """

    step: int
    run_steps: int
    micro_batches: int
    micro_batch_tokens: int
    sequence_tokens: int
    window_tokens: int
    learning_rate_multiplier: float
    momentum: float
    embedding_tied: bool
    scalars_frozen: bool
    transition: bool
    tokens_before: int
    further_token_weights: tuple[float, float]
    prefix_weight: float

    @property
    def tokens(self) -> int:
        """Tokens of this step."""
        return self.micro_batches * self.micro_batch_tokens


def plan_run(schedule: ScheduleConfig, momentum: MomentumConfig) -> tuple[StepPlan, ...]:
    """Plan every step of a run.

    Args:
        schedule: the selected entry of `schedules`.
        momentum: of the selected optimizer.

    Returns:
        One plan per step, `scheduled_steps + extension_steps` of them.
    """
    total_steps = schedule.scheduled_steps + schedule.extension_steps
    plans: list[StepPlan] = []
    tokens_before = 0
    settings, since_transition = _settings(schedule, 0), math.inf
    for step in range(total_steps):
        before, settings = settings, _settings(schedule, step)
        since_transition = 0 if settings != before else since_transition + 1
        plans.append(
            StepPlan(
                step=step,
                run_steps=total_steps,
                micro_batches=micro_batches_at(schedule.batch, step, schedule.scheduled_steps),
                micro_batch_tokens=schedule.micro_batch_tokens,
                sequence_tokens=stage_value(
                    schedule.sequence.fractions,
                    schedule.sequence.tokens,
                    step,
                    schedule.scheduled_steps,
                ),
                window_tokens=stage_value(
                    schedule.window.fractions,
                    schedule.window.tokens,
                    step,
                    schedule.scheduled_steps,
                ),
                learning_rate_multiplier=learning_rate_multiplier_at(schedule, step),
                momentum=momentum_at(momentum, step, total_steps),
                embedding_tied=embedding_tied_at(schedule, step),
                scalars_frozen=since_transition < schedule.scalar_freeze_steps,
                transition=since_transition == 0,
                tokens_before=tokens_before,
                further_token_weights=(
                    extra_loss_weight_at(schedule, "second_token", step),
                    extra_loss_weight_at(schedule, "third_token", step),
                ),
                prefix_weight=extra_loss_weight_at(schedule, "prefix", step),
            )
        )
        tokens_before += plans[-1].tokens
    return tuple(plans)


def stage_start(fraction: float, scheduled_steps: int) -> int:
    """First step of the stage that begins at this fraction of the scheduled steps."""
    return round(fraction * scheduled_steps)


def stage_at(fractions: Sequence[float], step: int, scheduled_steps: int) -> int:
    """Index of the stage that a step lies in: the last that has started."""
    started = bisect_right(fractions, step, key=lambda part: stage_start(part, scheduled_steps))
    return started - 1


def stage_value(
    fractions: Sequence[float], values: Sequence[int], step: int, scheduled_steps: int
) -> int:
    """Value of the stage that a step lies in."""
    return values[stage_at(fractions, step, scheduled_steps)]


def interpolate(shape: str, start: float, end: float, progress: float) -> float:
    """Interpolate between two values.

    Args:
        shape: `stepped` stays at start until progress is 1, `cosine` is flat at both ends,
            `exponential` is linear in the logarithm and needs both ends above 0.
        start: value at progress 0.
        end: value at progress 1.
        progress: from 0 to 1.
    """
    if progress == 1:
        return end
    if shape == "stepped":
        return start
    if shape == "linear":
        return start + (end - start) * progress
    if shape == "cosine":
        return start + (end - start) * (1 - math.cos(math.pi * progress)) / 2
    assert shape == "exponential", shape
    return start * (end / start) ** progress


def micro_batches_at(batch: BatchSchedule, step: int, scheduled_steps: int) -> int:
    """Micro-batches of a step, rounded to whole ones."""
    stage = stage_at(batch.fractions, step, scheduled_steps)
    here = batch.micro_batches[stage]
    if stage + 1 == len(batch.fractions):
        return here
    first = stage_start(batch.fractions[stage], scheduled_steps)
    following = stage_start(batch.fractions[stage + 1], scheduled_steps)
    progress = (step - first) / (following - first)
    return round(interpolate(batch.shape, here, batch.micro_batches[stage + 1], progress))


def learning_rate_multiplier_at(schedule: ScheduleConfig, step: int) -> float:
    """Warm-up, plateau and cooldown to the floor, scaled with the batch."""
    rate, scheduled_steps = schedule.learning_rate, schedule.scheduled_steps
    batch = schedule.batch
    growth = micro_batches_at(batch, step, scheduled_steps) / batch.micro_batches[0]
    return float(growth**rate.batch_exponent) * _learning_rate_shape(rate, step, scheduled_steps)


def _learning_rate_shape(rate: LearningRateSchedule, step: int, scheduled_steps: int) -> float:
    """Multiplier for a constant batch, between 0 and 1."""
    if step < rate.warmup_steps:
        return (step + 1) / (rate.warmup_steps + 1)
    cooldown_steps = round(rate.cooldown_fraction * scheduled_steps)
    since_cooldown = step - (scheduled_steps - cooldown_steps)
    if cooldown_steps == 0 or since_cooldown <= 0:
        return 1.0
    progress = min(since_cooldown / cooldown_steps, 1.0)
    return interpolate(rate.cooldown_shape, 1.0, rate.floor, progress)


def momentum_at(momentum: MomentumConfig, step: int, total_steps: int) -> float:
    """Momentum of a step: linear from start to peak, constant, linear to end."""
    warmup_steps = round(momentum.warmup_fraction * total_steps)
    cooldown_steps = round(momentum.cooldown_fraction * total_steps)
    if step < warmup_steps:
        return interpolate("linear", momentum.start, momentum.peak, step / warmup_steps)
    steps_left = total_steps - 1 - step
    if steps_left < cooldown_steps:
        return interpolate("linear", momentum.end, momentum.peak, steps_left / cooldown_steps)
    return momentum.peak


def extra_loss_weight_at(schedule: ScheduleConfig, name: str, step: int) -> float:
    """Weight of one extra loss: linear from each fraction's value to the next, then level."""
    extra, steps = schedule.extra_losses, schedule.scheduled_steps
    values: list[float] = getattr(extra, name)
    stage = stage_at(extra.fractions, step, steps)
    if stage + 1 == len(values):
        return values[stage]
    first, following = (stage_start(extra.fractions[n], steps) for n in (stage, stage + 1))
    return interpolate(
        "linear", values[stage], values[stage + 1], (step - first) / (following - first)
    )


def embedding_tied_at(schedule: ScheduleConfig, step: int) -> bool:
    """Whether embedding and head are tied: until the split, always if the fraction is 1."""
    fraction = schedule.embedding_split_fraction
    return fraction == 1 or step < stage_start(fraction, schedule.scheduled_steps)


def _settings(schedule: ScheduleConfig, step: int) -> tuple[int, int, int, bool]:
    """The settings whose change is a transition.

    A batch that ramps up is not among them: it changes in nearly every step.
    """
    steps = schedule.scheduled_steps
    stepped = schedule.batch.shape == "stepped"
    return (
        micro_batches_at(schedule.batch, step, steps) if stepped else 0,
        stage_value(schedule.window.fractions, schedule.window.tokens, step, steps),
        stage_value(schedule.sequence.fractions, schedule.sequence.tokens, step, steps),
        embedding_tied_at(schedule, step),
    )
