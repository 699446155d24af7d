"""Networks that cannot be are refused, and sizes that follow from others."""

import pytest
from pydantic import ValidationError

from tests.model.tiny import tiny_config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 12}, "multiple of 8"),
        ({"gate_inputs": 33}, "at most width = 32"),
        ({"attention_pattern": "SLS"}, "num_layers = 4"),
        ({"attention_pattern": "SLXS"}, "pattern"),
        ({"value_embedding_pattern": "a--"}, "num_layers = 4"),
        ({"value_embedding_pattern": "b--b"}, "first letters"),
        ({"value_embedding_pattern": "a-a-"}, "layer 2"),
        ({"paired_heads_pattern": "--P-"}, "layer 2"),
        ({"paired_heads_pattern": "P--"}, "num_layers = 4"),
        ({"num_heads": 3}, "paired_heads needs an even num_heads, found 3; set it to false"),
        ({"ffn_dim": 100}, "multiple of 8"),
        ({"ffn_dim": "large"}, "auto"),
        ({"skip_source_layer": 2}, "skip_source_layer < skip_target_layer"),
        ({"skip_target_layer": 4}, "num_layers - 1"),
        ({"backout_layer": 3}, "at most 2"),
        ({"num_layers": "4"}, "integer"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_impossible_networks_are_errors_that_say_what_is_allowed(changes, message):
    with pytest.raises(ValidationError, match=message):
        tiny_config(**changes)


def test_layers_of_connections_that_are_off_do_not_matter():
    off = dict.fromkeys(
        ("skip_connection", "backout", "late_attention", "dense_connections"), False
    )
    tiny_config(**off, skip_source_layer=9, backout_layer=9)


def test_pairs_that_are_off_need_no_even_number_of_heads():
    assert tiny_config(num_heads=3, paired_heads=False).paired_heads_pattern == "----"


def test_the_bigram_table_may_have_a_part_of_a_vocabulary_more():
    config = tiny_config(bigram_vocabularies=7.5, vocabulary=50257, vocabulary_multiple=128)
    assert config.bigram_rows == 377_280


def test_automatic_sizes():
    assert tiny_config().ffn_units == 128
    assert tiny_config(activation="swiglu").ffn_units == 128
    assert tiny_config(activation="swiglu", head_dim=384).ffn_units == 2048
    assert tiny_config(ffn_dim=24).ffn_units == 24
    assert tiny_config(vocabulary=50257, vocabulary_multiple=128).padded_vocabulary == 50304
    assert tiny_config().value_tables == ("a", "b")
