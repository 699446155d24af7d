"""The `optimizers`, `embedding_adam`, `scalar_adam` and `gradient_clipping` sections.

Each optimizer of the hidden matrices has a class of its own, found by its `rule`; the union at the
end of this file is the table of all of them.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ramengpt.config.base import Section

Decay = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]


class AdamConfig(Section):
    """Adam for embeddings and head, or for scalars and gates."""

    learning_rate: Positive
    beta1: Decay
    beta2: Decay
    epsilon: Positive
    weight_decay: NonNegative


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


class PolarConfig(Section):
    """The Polar Express polynomials: how many, from which singular value, how guarded."""

    steps: Count
    lower_bound: Annotated[float, Field(gt=0, lt=1)]
    cushion: Annotated[float, Field(ge=0, lt=1)]
    safety: Annotated[float, Field(ge=1)]


class MomentumRuleConfig(Section):
    """What every rule with a momentum schedule has."""

    learning_rate: Positive
    weight_decay: NonNegative
    momentum: MomentumConfig


class MuonConfig(MomentumRuleConfig):
    """Muon: momentum, orthogonalised."""

    rule: Literal["muon"]
    polar: PolarConfig


class NorMuonConfig(MomentumRuleConfig):
    """NorMuon: Muon with a second moment for each neuron."""

    rule: Literal["normuon"]
    beta2: Decay
    polar: PolarConfig


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


class AdamRuleConfig(AdamConfig):
    """Adam for the hidden matrices too."""

    rule: Literal["adam"]

    @property
    def momentum(self) -> MomentumConfig:
        """Adam's beta1 as a schedule that never changes."""
        return MomentumConfig(
            start=self.beta1,
            peak=self.beta1,
            end=self.beta1,
            warmup_fraction=0.0,
            cooldown_fraction=0.0,
        )


OptimizerConfig = Annotated[
    NorMuonConfig | MuonConfig | BamConfig | AroConfig | AdamRuleConfig,
    Field(discriminator="rule"),
]
