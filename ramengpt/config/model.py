"""The `models` and `parameters` sections: what the network is, and how fast each part of it learns.

One entry of `models` describes one network completely. `parameters` is shared by all of them: for
every label (see `ramengpt.model.parameters`) the multipliers of learning rate and weight decay.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ramengpt.config.base import Section

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
GATED_ACTIVATIONS = ("swiglu", "geglu")
AUTO_FFN_MULTIPLE = 64
"""An automatic gated ffn_dim is rounded up to a multiple of this many units."""

PositiveInt = Annotated[int, Field(gt=0)]
Layer = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
FfnDim = Annotated[int, Field(gt=0, multiple_of=8)]
LongShortPattern = Annotated[str, Field(pattern=r"^[LS-]+$")]
TablePattern = Annotated[str, Field(pattern=r"^[a-z-]+$")]


class ModelConfig(Section):
    """One network. Layers are counted from 0; a part that is switched off has no parameters."""

    num_layers: PositiveInt
    num_heads: PositiveInt
    head_dim: Annotated[int, Field(gt=0, multiple_of=8)]
    width: PositiveInt
    """Size of the residual stream; always num_heads x head_dim."""
    vocabulary: PositiveInt
    vocabulary_multiple: PositiveInt
    """Embedding and head have the vocabulary rounded up to a multiple of this."""
    activation: Activation
    ffn_dim: Literal["auto"] | FfnDim
    """Inner size of the MLP; auto is 4 x width, or 8/3 x width rounded up for gated ones."""
    attention_pattern: LongShortPattern
    """One letter a layer: L long window, S short window, - no attention."""
    value_embedding_pattern: TablePattern
    """One letter a layer: the table that the layer adds to its values (a, b, ...), - none."""
    attention_gate: bool
    key_offset: bool
    smear: bool
    skip_connection: bool
    skip_source_layer: Layer
    skip_target_layer: Layer
    backout: bool
    backout_layer: Layer
    gate_inputs: PositiveInt
    """Every gate reads this many leading entries of its input."""
    attention_scale: PositiveFloat
    rope_base: Annotated[float, Field(gt=1, allow_inf_nan=False)]
    yarn: bool
    yarn_low_rotations: PositiveFloat
    yarn_high_rotations: PositiveFloat
    yarn_scale_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    logit_scale: Annotated[float, Field(gt=0, le=80)]
    """The largest logit; e^80 is still finite in float32."""
    logit_shift: FiniteFloat
    logit_divisor: PositiveFloat
    attention_init_gain: PositiveFloat
    mlp_init_gain: PositiveFloat
    head_init_std: PositiveFloat
    residual_lambda: FiniteFloat
    embedding_lambda: FiniteFloat
    attention_input_lambda: FiniteFloat
    attention_output_lambda: FiniteFloat
    smear_lambda: FiniteFloat
    skip_lambda: FiniteFloat
    backout_lambda: FiniteFloat

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.width != self.num_heads * self.head_dim:
            raise ValueError(
                f"width must be num_heads x head_dim = {self.num_heads * self.head_dim}, "
                f"found {self.width}"
            )
        if self.gate_inputs > self.width:
            raise ValueError(f"gate_inputs must be at most width = {self.width}")
        if self.yarn_high_rotations <= self.yarn_low_rotations:
            raise ValueError("yarn_high_rotations must be greater than yarn_low_rotations")
        return self

    @model_validator(mode="after")
    def _check_patterns(self) -> Self:
        for key in ("attention_pattern", "value_embedding_pattern"):
            if len(getattr(self, key)) != self.num_layers:
                raise ValueError(
                    f"{key} needs one letter for each of num_layers = {self.num_layers} layers, "
                    f"found '{getattr(self, key)}'"
                )
        if "".join(self.value_tables) != "abcdefghijklmnopqrstuvwxyz"[: len(self.value_tables)]:
            raise ValueError(
                "value_embedding_pattern must use the first letters of the alphabet, one for each "
                f"table, found '{self.value_embedding_pattern}'"
            )
        for layer, window in enumerate(self.attention_pattern):
            if window == "-" and self.value_embedding_pattern[layer] != "-":
                raise ValueError(
                    f"value_embedding_pattern must have - at layer {layer}, where "
                    "attention_pattern has no attention"
                )
        return self

    @model_validator(mode="after")
    def _check_connections(self) -> Self:
        last = self.num_layers - 1
        if self.skip_connection and not self.skip_source_layer < self.skip_target_layer <= last:
            raise ValueError(
                "skip_source_layer < skip_target_layer <= num_layers - 1 is needed, found "
                f"{self.skip_source_layer} and {self.skip_target_layer} of {self.num_layers} layers"
            )
        if self.backout and self.backout_layer >= last:
            raise ValueError(
                "backout_layer must lie before the last layer (after it, the norm undoes the "
                f"subtraction): at most {last - 1}, found {self.backout_layer}"
            )
        return self

    @property
    def padded_vocabulary(self) -> int:
        """Rows of embedding and head."""
        return -(-self.vocabulary // self.vocabulary_multiple) * self.vocabulary_multiple

    @property
    def gated(self) -> bool:
        """Whether the MLP multiplies two projections of its input."""
        return self.activation in GATED_ACTIVATIONS

    @property
    def ffn_units(self) -> int:
        """Inner size of the MLP, with "auto" resolved."""
        if self.ffn_dim != "auto":
            return self.ffn_dim
        if not self.gated:
            return 4 * self.width
        return -(-8 * self.width // (3 * AUTO_FFN_MULTIPLE)) * AUTO_FFN_MULTIPLE

    @property
    def value_tables(self) -> tuple[str, ...]:
        """Letters of the value embedding tables, in alphabetical order."""
        return tuple(sorted(set(self.value_embedding_pattern) - {"-"}))


class Multipliers(Section):
    """Multipliers of one label's learning rate and weight decay."""

    lr_mul: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    wd_mul: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ParametersConfig(Section):
    """The multipliers of every label, whether or not the selected network has such parameters."""

    embedding: Multipliers
    head: Multipliers
    value_embedding: Multipliers
    attention: Multipliers
    mlp_in: Multipliers
    mlp_out: Multipliers
    attention_gate: Multipliers
    value_gate: Multipliers
    smear_gate: Multipliers
    skip_gate: Multipliers
    residual_lambda: Multipliers
    embedding_lambda: Multipliers
    attention_lambda: Multipliers
    smear_lambda: Multipliers
    skip_lambda: Multipliers
    backout_lambda: Multipliers
