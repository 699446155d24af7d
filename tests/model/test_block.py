"""A layer adds attention, then its MLP, to the residual stream."""

import torch
import torch.nn.functional as F

from tests.model import reference
from tests.model.tiny import layer_inputs, packed, tiny_config, tiny_model

WITH_ATTENTION, WITHOUT_ATTENTION = 1, 2


@torch.no_grad()
def through(layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's output and the reference's, of a large input."""
    model, lengths = tiny_model(tiny_config()), [30, 100]
    tokens_T, _, positions_T = packed(lengths)
    mlp = model.blocks[layer].mlp
    generator = torch.Generator().manual_seed(5)
    x_TD = 10 * torch.randn(130, 32, generator=generator, dtype=torch.float64)
    y_TD, _ = model.blocks[layer](
        x_TD,
        attended=x_TD,
        first_value_THK=None,
        attention_lambdas_2=model.attention_lambda[layer] if layer == WITH_ATTENTION else None,
        between_TD=None,
        **layer_inputs(model, layer, lengths),
    )
    expected_TD = x_TD
    if layer == WITH_ATTENTION:
        inputs = (reference.norm(x_TD), tokens_T.long(), positions_T)
        expected_TD = x_TD + reference.attention(model, layer, *inputs)[0]
    inner = F.relu(reference.norm(expected_TD) @ mlp.weight_in.T) ** 2
    return y_TD, expected_TD + inner @ mlp.weight_out


def test_attention_comes_first_and_both_are_added() -> None:
    torch.testing.assert_close(*through(WITH_ATTENTION), rtol=1e-10, atol=1e-10)


def test_a_layer_without_attention_is_its_mlp() -> None:
    torch.testing.assert_close(*through(WITHOUT_ATTENTION), rtol=1e-10, atol=1e-10)
    assert tiny_model(tiny_config()).blocks[WITHOUT_ATTENTION].attention is None
