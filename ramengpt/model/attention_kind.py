"""How the attentions of a network differ: by their window, and by whether heads are paired."""

from typing import NamedTuple

from ramengpt.config.model import NetworkConfig
from ramengpt.model.paired_heads import SLOTS


class AttentionKind(NamedTuple):
    """What distinguishes the attention of layers.

    Attributes:
        window: "L" or "S".
        slots: of a token: 1, or 2 where heads are paired; the window counts slots.
    """

    window: str
    slots: int


def attention_kind(config: NetworkConfig, layer: int) -> AttentionKind:
    """The kind of one layer that attends."""
    paired = config.paired_heads_pattern[layer] != "-"
    return AttentionKind(config.attention_pattern[layer], SLOTS if paired else 1)


def attention_kinds(config: NetworkConfig) -> tuple[AttentionKind, ...]:
    """All kinds that a network has, each once."""
    attending = (layer for layer, kind in enumerate(config.attention_pattern) if kind != "-")
    return tuple(sorted({attention_kind(config, layer) for layer in attending}))
