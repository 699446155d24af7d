"""The section `architectures`: which parts a network has, of whatever size, and their constants."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ramengpt.config.base import Finite, NonNegative, Positive, Section
from ramengpt.config.parameters import OwnNumbers, check_labels

Activation = Literal[
    "relu_squared",
    "relu",
    "gelu",
    "gelu_squared",
    "silu",
    "silu_squared",
    "swish",
    "swish_squared",
    "linear",
    "identity",
    "swiglu",
    "geglu",
]
MOST_UNITS = 2**14
"""Width of the residual stream; the largest published networks have as much."""
GateInputs = Annotated[int, Field(gt=0, le=MOST_UNITS)]


class PartsConfig(Section):
    """The parts and their constants; a part that is switched off has no parameters."""

    activation: Activation
    attention_free_layers: bool
    attention_gate: bool
    key_offset: bool
    value_embeddings: Literal["none", "shared", "untied"]
    """Tables shared as the model's pattern says, or one for each layer that it marks."""
    split_value_gate: bool
    """Half of the inputs of a value embedding's gate come from its table."""
    value_embedding_init_std: NonNegative
    bigram_embedding: bool
    bigram_vocabularies: Annotated[float, Field(ge=0.1, le=64)]
    """Rows of the hashed table, in padded vocabularies."""
    bigram_lambda: Finite
    bigram_after_attention: bool
    """Layers after the first add it between attention and MLP, not before attention."""
    exclusive_attention: bool
    late_attention: bool
    paired_heads: bool
    """In the layers that the model's pattern marks."""
    value_residual: bool
    value_residual_lambda: Finite
    smear: bool
    embedding_mix: bool
    attention_lambdas: bool
    sublayer_gains: bool
    """Every sublayer weighs x and its output; embedding_mix then weighs the embedding only."""
    token_gains: bool
    """Each token adds to the weights of its embedding (embedding_mix) and bigram in every layer."""
    token_gain_units: GateInputs
    hyper_connections: bool
    hyper_connection_streams: Annotated[int, Field(ge=2, le=8)]
    skip_connection: bool
    backout: bool
    dense_connections: bool
    dense_connection_units: GateInputs
    multi_token_loss: bool
    prefix_loss: bool
    gate_inputs: GateInputs
    """Every gate reads this many leading entries of its input."""
    attention_scale_gain: Positive
    rope_base: Annotated[float, Field(gt=1, le=1e9)]
    yarn: bool
    yarn_low_rotations: Positive
    yarn_high_rotations: Positive
    yarn_scale_gain: NonNegative
    logit_scale: Annotated[float, Field(gt=0, le=80)]
    """The largest logit; e^80 is still finite in float32."""
    logit_shift: Finite
    logit_divisor: Positive
    attention_init_gain: Positive
    attention_output_init_gain: NonNegative
    mlp_init_gain: Positive
    head_init_std: Positive
    residual_lambda: NonNegative
    embedding_lambda: Finite
    attention_input_lambda: Finite
    attention_output_lambda: Finite
    smear_lambda: Finite
    skip_lambda: Finite
    backout_lambda: Finite

    @model_validator(mode="after")
    def _check_rotations(self) -> Self:
        if self.yarn_high_rotations <= self.yarn_low_rotations:
            raise ValueError("yarn_high_rotations must be greater than yarn_low_rotations")
        return self


class ArchitectureConfig(PartsConfig):
    """An entry of `architectures`: parts, and how their parameters are updated.

    Attributes:
        parameters: by label, what was found with these parts, in place of the section
            `parameters`; None: nothing.
    """

    parameters: dict[str, OwnNumbers] | None = None

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        check_labels(self.parameters or {})
        return self
