"""The sections of params.yaml that say how parameters are updated.

Each optimizer of the hidden matrices has its own class, found by its `rule`; the union at the end
of this file lists them all.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ramengpt.config.base import (
    Count,
    CountOrNone,
    Decay,
    Finite,
    Fraction,
    NonNegative,
    Positive,
    Section,
    Steps,
    StepsOrNone,
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


class RuleConfig(Section):
    """What every optimizer of the hidden matrices has.

    Attributes:
        learning_rate: of the hidden matrices.
        warmup_steps: overrides the schedule's, unless None.
        embedding_learning_rate: of embeddings and head; overrides `embedding_adam`'s, unless None.
        head_learning_rate: of the head only; None: that of the embeddings.
        scalar_learning_rate: overrides `scalar_adam`'s, unless None.
    """

    learning_rate: Positive
    warmup_steps: StepsOrNone | None = None
    embedding_learning_rate: Positive | None = None
    head_learning_rate: Positive | None = None
    scalar_learning_rate: Positive | None = None


class MomentumRuleConfig(RuleConfig, DecayConfig):
    """A rule with decoupled weight decay and a momentum schedule."""

    momentum: MomentumConfig


class PolarRuleConfig(RuleConfig):
    """A rule that orthogonalises by polynomials.

    Attributes:
        momentum: over the run.
        polar: the polynomials.
        query_key_block_heads: orthogonalise q and k in blocks of this many heads; 0: as a whole.
    """

    momentum: MomentumConfig
    polar: PolarConfig
    query_key_block_heads: CountOrNone


class OrthogonalisedConfig(PolarRuleConfig, MomentumRuleConfig):
    """A rule with orthogonalised updates and weight decay.

    Attributes:
        row_floor: smallest norm of a row of the update, relative to the weight's row; 0: none.
    """

    row_floor: NonNegative


class MuonConfig(OrthogonalisedConfig):
    """Muon: momentum, orthogonalised."""

    rule: Literal["muon"]


class MuonEqRConfig(OrthogonalisedConfig):
    """MuonEq-R: Muon, with the rows of the momentum normalised first."""

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
    """For rules of Adam's family: beta1 as a constant momentum schedule."""

    beta1: float

    @property
    def momentum(self) -> MomentumConfig:
        """Constant at beta1."""
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


class AdEMAMixConfig(ConstantMomentum, RuleConfig, AdamConfig):
    """AdEMAMix: AdamW with a second, slow EMA of the gradient.

    Attributes:
        beta3: decay of the slow EMA.
        alpha: its weight in the update.
        ramp_fraction: of all steps, during which alpha grows from 0 and beta3 from beta1.
    """

    rule: Literal["ademamix"]
    beta3: Decay
    alpha: NonNegative
    ramp_fraction: Fraction


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


class SoapConfig(ConstantMomentum, RuleConfig, AdamConfig):
    """SOAP: Adam in slowly changing eigenbases."""

    rule: Literal["soap"]
    basis: BasisConfig


class SoapMuonConfig(OrthogonalisedConfig):
    """SOAP-Muon: SOAP's direction, orthogonalised."""

    rule: Literal["soap_muon"]
    beta2: Decay
    basis: BasisConfig


class HyperballConfig(RuleConfig):
    """A rule that keeps each matrix's norm constant, so without weight decay.

    Attributes:
        zero_init_gain: largest norm of a matrix initialised to zero, relative to an orthogonal one.
    """

    zero_init_gain: Positive

    @property
    def weight_decay(self) -> float:
        """None: the norm is constant."""
        return 0.0


class MuonHyperballConfig(PolarRuleConfig, HyperballConfig):
    """Muon's direction on a hyperball."""

    rule: Literal["muon_hyperball"]


class AdamHyperballConfig(ConstantMomentum, HyperballConfig):
    """Adam's direction on a hyperball."""

    rule: Literal["adam_hyperball"]
    beta1: Decay
    beta2: Decay
    epsilon: Positive


RuleConfigs = (
    NorMuonConfig
    | MuonConfig
    | BamConfig
    | AroConfig
    | AdamRuleConfig
    | AdamWConfig
    | MuonEqRConfig
    | AdEMAMixConfig
    | SoapConfig
    | SoapMuonConfig
    | MuonHyperballConfig
    | AdamHyperballConfig
)  # fmt: skip

OptimizerConfig = Annotated[RuleConfigs, Field(discriminator="rule")]

SHARED_BLOCKS = {"momentum": "momentum_schedules", "polar": "polynomials", "basis": "bases"}
"""A block of an optimizer may be the name of an entry in this table of params.yaml."""
