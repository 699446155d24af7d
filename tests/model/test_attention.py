"""One layer's attention against the plain equations of the reference, part by part."""

import pytest
import torch

from ramengpt.model.attention import Attention
from ramengpt.model.gpt import GPT
from tests.model import reference
from tests.model.tiny import layer_inputs, packed, tiny_config, tiny_model

LENGTHS = [1, 150, 7, 42]
LONG, SHORT = 1, 0
"""Layers of the tiny network by their window, both with a value embedding."""


def attend(model: GPT, layer: int, x_TD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer's output, and the reference's."""
    tokens_T, _, positions_T = packed(LENGTHS)
    lambdas = None if model.attention_lambda is None else model.attention_lambda[layer]
    first_THK = torch.linspace(-1, 1, x_TD.numel(), dtype=torch.float64).view(-1, 2, 16)
    first_THK = None if layer == 0 else first_THK
    y_TD, _ = model.blocks[layer].attention(
        x_TD, first_value_THK=first_THK, lambdas_2=lambdas, **layer_inputs(model, layer, LENGTHS)
    )
    tokens = tokens_T.long()
    return y_TD, reference.attention(model, layer, x_TD, tokens, positions_T, first_THK)[0]


def normed_inputs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(sum(LENGTHS), 32, generator=generator, dtype=torch.float64)
    return reference.norm(x)


@pytest.mark.parametrize("layer", [SHORT, LONG])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_gate": False},
        {"key_offset": False},
        {"value_embeddings": "none"},
        {"attention_lambdas": False},
        {"split_value_gate": False},
        {"exclusive_attention": False},
        {"paired_heads_pattern": "-P--"},
    ],
    ids=lambda changes: "".join(changes) or "everything",
)
@torch.no_grad()
def test_a_layer_computes_its_equations(layer: int, changes: dict[str, object]) -> None:
    model = tiny_model(tiny_config(**changes))
    y_TD, expected_TD = attend(model, layer, normed_inputs())
    torch.testing.assert_close(y_TD, expected_TD, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_a_token_sees_no_later_one_and_no_other_document() -> None:
    model = tiny_model(tiny_config())
    x_TD = normed_inputs()
    before_TD, _ = attend(model, LONG, x_TD)
    changed_TD = x_TD.clone()
    changed_TD[100:151] = changed_TD[100:151].flip(1)  # the end of the second document
    after_TD, _ = attend(model, LONG, changed_TD)
    same_T = (before_TD == after_TD).all(1)
    assert same_T[:100].all() and same_T[151:].all()
    assert not same_T[100:151].any()


def test_parts_that_are_off_have_no_parameters() -> None:
    everything = dict(Attention(tiny_config(), SHORT).named_parameters())
    assert {name: tuple(p.shape) for name, p in everything.items()} == {
        "weight": (128, 32),
        "gate": (2, 12),
        "value_gate": (2, 12),
        "exclusion": (2,),
    }
    assert dict(Attention(tiny_config(), LONG).named_parameters())[
        "value_residual.weights_2"
    ].shape == (2,)
    off = {"attention_gate": False, "value_embeddings": "none", "exclusive_attention": False}
    plain = tiny_config(**off)
    assert set(dict(Attention(plain, SHORT).named_parameters())) == {"weight"}


def test_only_long_layers_offset_their_keys() -> None:
    assert [Attention(tiny_config(), layer).offsets_keys for layer in (SHORT, LONG)] == [
        False,
        True,
    ]
    assert not Attention(tiny_config(key_offset=False), LONG).offsets_keys
