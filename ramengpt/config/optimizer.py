"""The sections of params.yaml that say how parameters are updated.

Each optimizer of the hidden matrices has a class of its own, found by its `rule`; the union at the
end of this file is the table of all of them.
"""

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
    StepsOrNone,
)


class DecayConfig(Section):
    """Decoupled weight decay.

    Attributes:
        weight_decay: before the multipliers.
        decay_scale: what a step multiplies it by to get the share of the weights that it removes:
            the learning rate, or its square.
        cautious_decay: only weights that the step does not move away from zero decay.
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
    """The Polar Express polynomials: how many, from which singular value, how guarded."""

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


class RuleConfig(Section):
    """What every optimizer of the hidden matrices has.

    Attributes:
        learning_rate: of the hidden matrices.
        warmup_steps: in place of the schedule's; None: the schedule's.
        embedding_learning_rate: of embeddings and head, in place of `embedding_adam`'s; None: that.
        head_learning_rate: of the head alone; None: the embeddings'.
        scalar_learning_rate: in place of `scalar_adam`'s; None: that.
    """

    learning_rate: Positive
    warmup_steps: StepsOrNone | None = None
    embedding_learning_rate: Positive | None = None
    head_learning_rate: Positive | None = None
    scalar_learning_rate: Positive | None = None


class MomentumRuleConfig(RuleConfig, DecayConfig):
    """A rule with decoupled weight decay and a momentum schedule."""

    momentum: MomentumConfig


class OrthogonalisedConfig(MomentumRuleConfig):
    """A rule that orthogonalises by polynomials."""

    polar: PolarConfig


class MuonConfig(OrthogonalisedConfig):
    """Muon: momentum, orthogonalised."""

    rule: Literal["muon"]


class MuonEqRConfig(OrthogonalisedConfig):
    """MuonEq-R: Muon of a momentum whose rows have equal norms."""

    rule: Literal["muon_eq_r"]


class NorMuonConfig(OrthogonalisedConfig):
    """NorMuon: Muon with a second moment for each neuron."""

    rule: Literal["normuon"]
    beta2: Decay


class BamConfig(MomentumRuleConfig):
    """BAM: momentum with rows and columns brought to equal norms."""

    rule: Literal["bam"]
    passes: Count


class AroConfig(MomentumRuleConfig):
    """ARO-Sinkhorn: BAM's idea in a learned rotation of the residual stream."""

    rule: Literal["aro"]
    update_rms: Positive
    sinkhorn_passes: Count
    shifted_qr_passes: Count
    plain_qr_passes: Count
    qr_shift: Positive


class ConstantMomentum:
    """For rules of Adam's family: beta1 as a schedule that never changes."""

    beta1: float

    @property
    def momentum(self) -> MomentumConfig:
        """Starts, stays and ends at beta1."""
        return MomentumConfig(
            start=self.beta1,
            peak=self.beta1,
            end=self.beta1,
            warmup_fraction=0.0,
            cooldown_fraction=0.0,
        )


class AdamRuleConfig(ConstantMomentum, RuleConfig, AdamConfig):
    """Adam for the hidden matrices too."""

    rule: Literal["adam"]


class AdamWConfig(ConstantMomentum, RuleConfig, AdamConfig):
    """AdamW as its paper has it."""

    rule: Literal["adamw"]


RuleConfigs = (
    NorMuonConfig
    | MuonConfig
    | BamConfig
    | AroConfig
    | AdamRuleConfig
    | AdamWConfig
    | MuonEqRConfig
)  # fmt: skip

OptimizerConfig = Annotated[RuleConfigs, Field(discriminator="rule")]

SHARED_BLOCKS = {"momentum": "momentum_schedules", "polar": "polynomials"}
"""Blocks of an optimizer that may be the name of an entry of the table beside them."""
