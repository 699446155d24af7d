"""Later layers mix the first attention's values into theirs."""

import pytest
import torch

from ramengpt.model.value_residual import ValueResidual, mixes_values
from tests.model.tiny import packed, tiny_config, tiny_model


def test_both_values_are_weighed():
    module = ValueResidual().double()
    with torch.no_grad():
        module.weights_2.copy_(torch.tensor([0.25, -3.0]))
    own, first = torch.randn(2, 7, 2, 16, dtype=torch.float64)
    torch.testing.assert_close(module(own, first), own / 4 - 3 * first)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("SL-L", [1, 3]), ("-LS-", [2]), ("---L", []), ("----", [])],
)
def test_layers_after_the_first_attention_mix(pattern, expected):
    config = tiny_config(
        attention_pattern=pattern, value_embedding_pattern="----", paired_heads_pattern="----"
    )
    assert [layer for layer in range(4) if mixes_values(config, layer)] == expected
    model = tiny_model(config)
    found = [
        layer
        for layer, block in enumerate(model.blocks)
        if block.attention is not None and block.attention.value_residual is not None
    ]
    assert found == expected


def test_gradients_reach_the_first_values_through_later_layers():
    """With the first attention's own output off, only through them."""
    config = tiny_config(exclusive_attention=False)
    model = tiny_model(config)
    with torch.no_grad():
        first = model.blocks[0].attention.weight
        first[3 * config.width :] = 0
    model(*packed([30, 9])).backward()
    values = first.grad[2 * config.width : 3 * config.width]
    keys = first.grad[config.width : 2 * config.width]
    assert values.abs().max() > 1e-6
    assert keys.abs().max() == 0
