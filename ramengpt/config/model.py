"""The sections `models`, `architectures` and `parameters`: the network, and how it learns.

An entry of `models` has sizes and patterns of layers, an entry of `architectures` the parts and
their constants; the two selected ones make one network. `parameters` is shared by all: for every
label (see `ramengpt.model.parameters`) the multipliers of learning rate and weight decay.
"""

import math
from typing import Annotated, Any, Literal, Self

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
    """An entry of `models`: sizes, and which layers the parts of an architecture apply to."""

    num_layers: PositiveInt
    num_heads: PositiveInt
    head_dim: Annotated[int, Field(gt=0, multiple_of=8)]
    vocabulary: PositiveInt
    vocabulary_multiple: PositiveInt
    """Embedding and head have the vocabulary rounded up to a multiple of this."""
    ffn_dim: Literal["auto"] | FfnDim
    """Inner size of the MLP; auto is 4 x width, or 8/3 x width rounded up for gated ones."""
    attention_pattern: LongShortPattern
    """One letter per layer: L long window, S short window, - no attention."""
    value_embedding_pattern: TablePattern
    """One letter per layer: the table that the layer adds to its values (a, b, ...), - none."""
    skip_source_layer: Layer
    skip_target_layer: Layer
    backout_layer: Layer

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

    @property
    def width(self) -> int:
        """Size of the residual stream."""
        return self.num_heads * self.head_dim

    @property
    def padded_vocabulary(self) -> int:
        """Rows of embedding and head."""
        return -(-self.vocabulary // self.vocabulary_multiple) * self.vocabulary_multiple

    @property
    def value_tables(self) -> tuple[str, ...]:
        """Letters of the value embedding tables, in alphabetical order."""
        return tuple(sorted(set(self.value_embedding_pattern) - {"-"}))


class ArchitectureConfig(Section):
    """An entry of `architectures`: the parts of the network, of whatever size, and their constants.

    A part that is switched off has no parameters.
    """

    activation: Activation
    attention_free_layers: bool
    attention_gate: bool
    key_offset: bool
    value_embeddings: bool
    smear: bool
    embedding_mix: bool
    attention_lambdas: bool
    skip_connection: bool
    backout: bool
    gate_inputs: PositiveInt
    """Every gate reads this many leading entries of its input."""
    attention_scale_gain: PositiveFloat
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
    def _check_rotations(self) -> Self:
        if self.yarn_high_rotations <= self.yarn_low_rotations:
            raise ValueError("yarn_high_rotations must be greater than yarn_low_rotations")
        return self


class NetworkConfig(ModelConfig, ArchitectureConfig):
    """One network: the sizes of a model with the parts of an architecture.

    The patterns are those in force: a part that is off is gone from them.
    """

    @classmethod
    def of(cls, model: ModelConfig, architecture: ArchitectureConfig) -> Self:
        """Combine the two selected entries.

        Raises:
            ValidationError: the sizes do not suit the parts.
        """
        return cls.model_validate(model.model_dump() | architecture.model_dump())

    @model_validator(mode="before")
    @classmethod
    def _apply_switches(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if values.get("value_embeddings") is False and "num_layers" in values:
            values["value_embedding_pattern"] = "-" * values["num_layers"]
        if values.get("attention_free_layers") is False and "attention_pattern" in values:
            values["attention_pattern"] = values["attention_pattern"].replace("-", "S")
        return values

    @model_validator(mode="after")
    def _check_connections(self) -> Self:
        last = self.num_layers - 1
        if self.gate_inputs > self.width:
            raise ValueError(f"gate_inputs must be at most width = {self.width}")
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
    def attention_scale(self) -> float:
        """Factor of the scores before any change of window."""
        return self.attention_scale_gain / math.sqrt(self.head_dim)

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
