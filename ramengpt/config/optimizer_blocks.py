"""Blocks of an optimizer's entry in params.yaml, some of which several entries share by name."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ramengpt.config.base import (
    Count,
    Decay,
    Finite,
    Fraction,
    NonNegative,
    Positive,
    Section,
    Steps,
)


class DecayConfig(Section):
    """Decoupled weight decay.

    Attributes:
        weight_decay: before the multipliers.
        decay_scale: each step removes weight_decay times this of the weights: the learning rate, or
            its square.
        cautious_decay: decay only weights that the update does not move away from zero.
    """

    weight_decay: NonNegative
    decay_scale: Literal["rate", "rate_squared"]
    cautious_decay: bool


class AdamConfig(DecayConfig):
    """Adam for embeddings and head, or for scalars and gates."""

    learning_rate: Positive
    beta1: Decay
    beta2: Decay
    epsilon: Positive


class GradientClippingConfig(Section):
    """Largest gradient norm of each group; 0 only reports the norm."""

    embedding_norm: NonNegative
    hidden_norm: NonNegative
    scalar_norm: NonNegative


class MomentumConfig(Section):
    """Momentum over the run: `start` to `peak`, then to `end`; fractions of all its steps."""

    start: Decay
    peak: Decay
    end: Decay
    warmup_fraction: Fraction
    cooldown_fraction: Fraction

    @model_validator(mode="after")
    def _ramps_do_not_overlap(self) -> Self:
        if self.warmup_fraction + self.cooldown_fraction > 1:
            raise ValueError(
                "warmup_fraction + cooldown_fraction must be at most 1, found "
                f"{self.warmup_fraction} + {self.cooldown_fraction}"
            )
        return self


class PolarExpressConfig(Section):
    """The Polar Express polynomials: their number, smallest singular value and safety margins."""

    kind: Literal["polar_express"]
    steps: Count
    lower_bound: Annotated[float, Field(gt=0, lt=1)]
    cushion: Annotated[float, Field(ge=0, lt=1)]
    safety: Annotated[float, Field(ge=1, le=10)]


class NewtonSchulzConfig(Section):
    """One polynomial a x + b x^3 + c x^5, applied several times."""

    kind: Literal["newton_schulz"]
    steps: Count
    coefficients: Annotated[list[Finite], Field(min_length=3, max_length=3)]


PolarConfig = Annotated[PolarExpressConfig | NewtonSchulzConfig, Field(discriminator="kind")]


class BasisConfig(Section):
    """Eigenbases of a gradient's two covariances.

    Attributes:
        every_steps: between two updates of the bases.
        decay: of the covariances, per step.
        largest_side: sides of a matrix longer than this are not rotated.
        shifted_qr_passes: of Cholesky QR.
        plain_qr_passes: after them.
        qr_shift: relative to the squared norm.
    """

    every_steps: Steps
    decay: Decay
    largest_side: Annotated[int, Field(gt=0, le=2**17)]
    shifted_qr_passes: Count
    plain_qr_passes: Count
    qr_shift: Positive


SHARED_BLOCKS = {"momentum": "momentum_schedules", "polar": "polynomials", "basis": "bases"}
"""A block of an optimizer may be the name of an entry in this table of params.yaml."""
