"""Each layer's window and slots, and the kinds of a network."""

from ramengpt.model.attention_kind import AttentionKind, attention_kind, attention_kinds
from tests.model.tiny import tiny_config


def test_kinds_follow_the_patterns():
    config = tiny_config()  # SL-L, the first in pairs
    assert attention_kind(config, 0) == AttentionKind("S", 2)
    assert attention_kind(config, 1) == AttentionKind("L", 1)
    assert attention_kinds(config) == (AttentionKind("L", 1), AttentionKind("S", 2))


def test_pairs_that_are_off_have_one_slot():
    config = tiny_config(paired_heads=False)
    assert attention_kinds(config) == (AttentionKind("L", 1), AttentionKind("S", 1))


def test_no_attention_has_no_kind():
    patterns = ("attention_pattern", "value_embedding_pattern", "paired_heads_pattern")
    assert attention_kinds(tiny_config(**dict.fromkeys(patterns, "----"))) == ()
