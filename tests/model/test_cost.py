"""Parameters and operations, counted by hand."""

import pytest

from ramengpt.config import load_config
from ramengpt.model.cost import count_as_gpt2, count_parameters, flops_per_token
from ramengpt.model.summary import summarise
from tests.model.tiny import tiny_config


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("instant", {
            "embedding": 50304 * 128, "head": 50304 * 128, "value_embedding": 50304 * 128,
            "attention": 4 * 4 * 128 * 128, "mlp_in": 4 * 512 * 128, "mlp_out": 4 * 512 * 128,
            "attention_gate": 4 * 2 * 12, "value_gate": 2 * 2 * 12,
            "residual_lambda": 4, "embedding_lambda": 4, "attention_lambda": 8,
        }),
        ("base", {
            "embedding": 12_877_824, "head": 12_877_824, "value_embedding": 2 * 12_877_824,
            "attention": 6 * 262_144, "mlp_in": 6 * 262_144, "mlp_out": 6 * 262_144,
            "attention_gate": 6 * 4 * 12, "value_gate": 4 * 4 * 12,
            "residual_lambda": 6, "embedding_lambda": 6, "attention_lambda": 12,
        }),
        ("small", {
            "embedding": 38_633_472, "head": 38_633_472, "value_embedding": 3 * 38_633_472,
            "attention": 11 * 4 * 589_824, "mlp_in": 12 * 4 * 589_824, "mlp_out": 12 * 4 * 589_824,
            "attention_gate": 11 * 6 * 12, "value_gate": 6 * 6 * 12,
            "residual_lambda": 12, "embedding_lambda": 12, "attention_lambda": 22,
        }),
    ],
)  # fmt: skip
def test_parameters_equal_the_ones_counted_by_hand(name, expected):
    counts = count_parameters(load_config([f"model={name}"]).network)
    connections = {"smear_gate": 12, "smear_lambda": 1, "skip_gate": 12, "skip_lambda": 1}
    found = {label: count for (_, label), count in counts.items()}
    assert found == expected | connections | {"backout_lambda": 1}


@pytest.mark.parametrize(("name", "millions"), [("small", 121.2), ("medium", 349.3)])
def test_sizes_as_gpt2_counts(name, millions):
    assert count_as_gpt2(load_config([f"model={name}"]).network) / 1e6 == pytest.approx(
        millions, abs=0.1
    )


def test_gated_mlp_has_about_as_many_parameters():
    config = tiny_config(activation="swiglu", ffn_dim=88)
    counts = count_parameters(config)
    assert counts["hidden", "mlp_in"] == 4 * 2 * 88 * 32
    assert counts["hidden", "mlp_out"] == 4 * 88 * 32


@pytest.mark.parametrize(("sequence", "window"), [(512, 128), (512, 384), (200, 256), (1, 128)])
def test_flops_equal_a_count_over_every_query(sequence, window):
    config = tiny_config(paired_heads_pattern="P--P")  # short, long, none, long; two in pairs
    short = max(window // 2 // 128 * 128, 128)
    multiplications = 0
    for query in range(sequence):
        for kind, pairs in zip("SL-L", "P--P", strict=True):
            if kind != "-":
                size = {"L": window, "S": short}[kind]
                keys = min(query + 1, size)
                if pairs == "P":  # both slots, each of half of the width
                    keys = (min(2 * query + 1, size) + min(2 * query + 2, size)) / 2
                multiplications += 4 * 32 * 32 + 2 * keys * 32  # projections; scores and values
            multiplications += 2 * 128 * 32
        multiplications += 61 * 32
    found = flops_per_token(config, sequence_tokens=sequence, window_tokens=window)
    assert found * sequence == pytest.approx(6 * multiplications)


def test_summary_names_every_label_and_the_total():
    config = load_config(["model=base"])
    text = summarise(config)
    for _, label in count_parameters(config.network):
        assert label in text
    assert "56,230,419" in text and "GiB" in text
