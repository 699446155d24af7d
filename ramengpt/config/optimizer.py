"""The sections of params.yaml that say how parameters are updated.

Each optimizer of the hidden matrices has its own class, found by its `rule`; the union at the end
of this file lists them all.
"""

from typing import Annotated, Literal

from pydantic import Field

from ramengpt.config.base import (
    Count,
    Decay,
    Fraction,
    NonNegative,
    Positive,
    Section,
    StepsOrNone,
)
from ramengpt.config.optimizer_blocks import (
    AdamConfig,
    BasisConfig,
    DecayConfig,
    MomentumConfig,
    PolarConfig,
)


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
    """

    momentum: MomentumConfig
    polar: PolarConfig


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


class LiteConfig(PolarRuleConfig, MomentumRuleConfig):
    """LITE: Muon with larger steps along flat directions.

    Attributes:
        update_rms: of an update at rate 1, where nothing is flat.
        sharp_share: of all directions that count as sharp, about.
        sharp_damping: of the orthogonalised gradient's part in a step along sharp directions.
        flat_damping: the same along flat ones, at the end of the ramp.
        flat_gain: of steps and decay along flat directions, at the end of the ramp.
        ramp_fraction: of all steps, in which the last two grow from sharp_damping and 1.
    """

    rule: Literal["lite"]
    update_rms: Positive
    sharp_share: Fraction
    sharp_damping: Annotated[float, Field(ge=-1, le=10)]
    flat_damping: Annotated[float, Field(ge=-1, le=10)]
    flat_gain: Positive
    ramp_fraction: Fraction


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
    | LiteConfig
)  # fmt: skip

OptimizerConfig = Annotated[RuleConfigs, Field(discriminator="rule")]
