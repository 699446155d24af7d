"""A layer adds attention, then its MLP, to the residual stream."""

import torch
import torch.nn.functional as F

from ramengpt.model.attention_backend import PackedContext
from tests.model import reference
from tests.model.tiny import packed, tiny_config, tiny_model

WITH_ATTENTION, WITHOUT_ATTENTION = 1, 2


def through(layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's output and the reference's, with the gradient of a large input."""
    tokens_T, _, positions_T = packed([30, 100])
    model = tiny_model(tiny_config())
    block = model.blocks[layer]
    generator = torch.Generator().manual_seed(5)
    x_TD = 10 * torch.randn(130, 32, generator=generator, dtype=torch.float64)
    context = PackedContext(positions_T, model.rotary, model.attention_kinds, "sdpa", None)
    letter = model.config.value_embedding_pattern[layer]
    value_TD = model.value_embeddings[letter](tokens_T) if letter != "-" else None
    lambdas = model.attention_lambda[layer] if layer == WITH_ATTENTION else None
    with torch.no_grad():
        rotation = model.rotary(positions_T)
        y_TD, _ = block(
            x_TD,
            attended=x_TD,
            value_TD=value_TD,
            first_value_THK=None,
            attention_lambdas_2=lambdas,
            between_TD=None,
            rotation=rotation,
            context=context,
        )
        expected_TD = x_TD
        if layer == WITH_ATTENTION:
            normed_TD = reference.norm(x_TD)
            tokens = tokens_T.long()
            expected_TD = (
                x_TD + reference.attention(model, layer, normed_TD, tokens, positions_T)[0]
            )
        inner = F.relu(reference.norm(expected_TD) @ block.mlp.weight_in.T) ** 2
        expected_TD = expected_TD + inner @ block.mlp.weight_out
    return y_TD, expected_TD


def test_attention_comes_first_and_both_are_added() -> None:
    torch.testing.assert_close(*through(WITH_ATTENTION), rtol=1e-10, atol=1e-10)


def test_a_layer_without_attention_is_its_mlp() -> None:
    torch.testing.assert_close(*through(WITHOUT_ATTENTION), rtol=1e-10, atol=1e-10)
    assert tiny_model(tiny_config()).blocks[WITHOUT_ATTENTION].attention is None
