"""The section `models`, and the network that one of its entries makes with an architecture."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ramengpt.config.architecture import MOST_UNITS, ArchitectureConfig, PartsConfig
from ramengpt.config.base import Section

LETTERS = "abcdefghijklmnopqrstuvwxyz"
GATED_ACTIVATIONS = ("swiglu", "geglu")
AUTO_FFN_MULTIPLE = 64
"""An automatic gated ffn_dim is rounded up to a multiple of this many units."""

MOST_LAYERS = 256

Heads = Annotated[int, Field(gt=0, le=256)]
HeadDim = Annotated[int, Field(gt=0, le=512, multiple_of=8)]
Vocabulary = Annotated[int, Field(gt=0, le=2**16)]
"""Tokens are uint16 in shards."""
Layers = Annotated[int, Field(gt=0, le=MOST_LAYERS)]
Layer = Annotated[int, Field(ge=0, lt=MOST_LAYERS)]
FfnDim = Annotated[int, Field(gt=0, le=8 * MOST_UNITS, multiple_of=8)]
LongShortPattern = Annotated[str, Field(pattern=r"^[LS-]+$")]
TablePattern = Annotated[str, Field(pattern=r"^[a-z-]+$")]
PairPattern = Annotated[str, Field(pattern=r"^[P-]+$")]


class ModelConfig(Section):
    """An entry of `models`: sizes, and which layers the parts of an architecture apply to."""

    num_layers: Layers
    num_heads: Heads
    head_dim: HeadDim
    vocabulary: Vocabulary
    vocabulary_multiple: Vocabulary
    """Embedding and head have the vocabulary rounded up to a multiple of this."""
    ffn_dim: Literal["auto"] | FfnDim
    """Inner size of the MLP; auto is 4 x width, or 8/3 x width rounded up for gated ones."""
    attention_pattern: LongShortPattern
    """One letter per layer: L long window, S short window, - no attention."""
    value_embedding_pattern: TablePattern
    """One letter per layer: the table that the layer adds to its values (a, b, ...), - none."""
    paired_heads_pattern: PairPattern
    """One letter per layer: P heads in pairs, - each head apart."""
    skip_source_layer: Layer
    skip_target_layer: Layer
    backout_layer: Layer

    @model_validator(mode="after")
    def _check_patterns(self) -> Self:
        if self.width > MOST_UNITS:
            raise ValueError(
                f"num_heads x head_dim must be at most {MOST_UNITS}, found {self.width}"
            )
        for key in ("attention_pattern", "value_embedding_pattern", "paired_heads_pattern"):
            if len(getattr(self, key)) != self.num_layers:
                raise ValueError(
                    f"{key} needs one letter for each of num_layers = {self.num_layers} layers, "
                    f"found '{getattr(self, key)}'"
                )
        if "".join(self.value_tables) != LETTERS[: len(self.value_tables)]:
            raise ValueError(
                "value_embedding_pattern must use the first letters of the alphabet, one for each "
                f"table, found '{self.value_embedding_pattern}'"
            )
        for key in ("value_embedding_pattern", "paired_heads_pattern"):
            for layer, window in enumerate(self.attention_pattern):
                if window == "-" and getattr(self, key)[layer] != "-":
                    raise ValueError(
                        f"{key} must have - at layer {layer}, where attention_pattern has no "
                        "attention"
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


class NetworkConfig(ModelConfig, PartsConfig):
    """One network: the sizes of a model with the parts of an architecture.

    The patterns are those in force: a part that is off is gone from them.
    """

    @classmethod
    def of(cls, model: ModelConfig, architecture: ArchitectureConfig) -> Self:
        """Combine the two selected entries.

        Raises:
            ValidationError: the sizes do not suit the parts.
        """
        parts = architecture.model_dump(exclude={"parameters"})
        return cls.model_validate(model.model_dump() | parts)

    @model_validator(mode="before")
    @classmethod
    def _apply_switches(cls, values: Any) -> Any:
        patterns = ("value_embedding_pattern", "attention_pattern")
        if not isinstance(values, dict) or not all(
            isinstance(values.get(key, ""), str) for key in patterns
        ):
            return values  # the check of the types says what is wrong
        values = dict(values)
        pattern = values.get("value_embedding_pattern", "")
        if values.get("value_embeddings") == "none":
            values["value_embedding_pattern"] = "-" * len(pattern)
        if values.get("value_embeddings") == "untied":
            letters = iter(LETTERS)
            untied = (letter if letter == "-" else next(letters, "?") for letter in pattern)
            values["value_embedding_pattern"] = "".join(untied)
        if values.get("paired_heads") is False:
            values["paired_heads_pattern"] = "-" * len(pattern)
        if values.get("attention_free_layers") is False and "attention_pattern" in values:
            values["attention_pattern"] = values["attention_pattern"].replace("-", "S")
        return values

    @model_validator(mode="after")
    def _check_connections(self) -> Self:
        last = self.num_layers - 1
        if self.gate_inputs > self.width:
            raise ValueError(f"gate_inputs must be at most width = {self.width}")
        if "P" in self.paired_heads_pattern and self.num_heads % 2:
            raise ValueError(
                f"paired_heads needs an even num_heads, found {self.num_heads}; set it to false"
            )
        if self.skip_connection and not self.skip_source_layer < self.skip_target_layer <= last:
            raise ValueError(
                "skip_source_layer < skip_target_layer <= num_layers - 1 is needed, found "
                f"{self.skip_source_layer} and {self.skip_target_layer} of {self.num_layers} layers"
            )
        uses_middle = self.backout or self.late_attention or self.dense_connections
        if uses_middle and self.backout_layer >= last:
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
    def bigram_rows(self) -> int:
        """Rows of the bigram embedding; one of them is that of first tokens."""
        return max(int(self.bigram_vocabularies * self.padded_vocabulary), 2)

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
