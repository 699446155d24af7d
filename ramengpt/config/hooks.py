"""The section `hooks` of params.yaml: what acts on all weights, whatever the optimizer."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ramengpt.config.base import Decay, Fraction, NonNegative, Positive, Section, StepsOrNone


class EmaNesterovConfig(Section):
    """Before each forward pass: a push along the EMA of the weights' updates.

    Attributes:
        strength: of the push, times the learning rate's multiplier; 0 turns the hook off.
        decay: of the EMA, per step.
        start_fraction: of all steps, where pushes begin.
        end_fraction: where they end.
    """

    strength: NonNegative
    decay: Decay
    start_fraction: Fraction
    end_fraction: Fraction

    @model_validator(mode="after")
    def _starts_before_it_ends(self) -> Self:
        if self.start_fraction > self.end_fraction:
            raise ValueError(
                f"start_fraction must be at most end_fraction, found {self.start_fraction} and "
                f"{self.end_fraction}"
            )
        return self


class OuterStepConfig(Section):
    """After several steps: one step of momentum SGD along what they changed together.

    Attributes:
        every_steps: between two of them; 0 turns the hook off.
        learning_rate: share of the change that is kept.
        momentum: of the outer steps; 0 is Lookahead.
    """

    every_steps: StepsOrNone
    learning_rate: Positive
    momentum: Decay


class EvaluationAverageConfig(Section):
    """Weights for evaluation: a mix of the current ones and their moving average.

    Attributes:
        share: of the average in the mix; 0 turns the hook off.
        horizon_fraction: of all steps; the average moves by its inverse in every step.
        start_fraction: of all steps, where averaging begins.
    """

    share: Fraction
    horizon_fraction: Annotated[float, Field(gt=0, le=1)]
    start_fraction: Fraction


class HooksConfig(Section):
    """The hooks of a run."""

    ema_nesterov: EmaNesterovConfig
    outer_step: OuterStepConfig
    evaluation_average: EvaluationAverageConfig
