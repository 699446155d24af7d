"""The first value of every parameter, by label, in one place.

Projections that write to the residual stream are zero, so every block starts as the identity.

Sources: the scales of modded-nanogpt; zero-initialised projections from muP (2203.03466).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig

ZERO = (
    "embedding",  # replaced by the head's, to which it is tied at first
    "bigram_embedding",
    "exclusive_attention",
    "mlp_out",
    "attention_gate",
    "value_gate",
    "smear_gate",
    "skip_gate",
    "dense_connection_out",
    "dense_connection_bias",
    "hyper_connection_weight",
    "hyper_connection_bias",
    "token_gain_out",
)
"""Labels of parameters that start at zero."""


@torch.no_grad()
def initialise(model: nn.Module, config: NetworkConfig) -> None:
    """Fill every parameter, drawing from the global generator in the order of the parameters.

    Args:
        model: with parameters made by `make_parameter`; embedding and head are named
            `embedding.weight` and `head.weight`.
        config: holds the scales.
    """
    fill = _fillers(config)
    for parameter in model.parameters():
        fill[parameter.label](parameter)  # type: ignore[attr-defined]
    model.get_parameter("embedding.weight").copy_(model.get_parameter("head.weight"))


def _fillers(config: NetworkConfig) -> dict[str, Callable[[Tensor], object]]:
    width = config.width

    def uniform(gain: float) -> Callable[[Tensor], Tensor]:
        if gain == 0:
            return nn.init.zeros_  # draws nothing from the generator
        bound = math.sqrt(3 / width) * gain  # the standard deviation is gain / sqrt(width)
        return lambda weight: nn.init.uniform_(weight, -bound, bound)

    def normal(std: float) -> Callable[[Tensor], Tensor]:
        if std == 0:
            return nn.init.zeros_
        return lambda weight: nn.init.normal_(weight, std=std)

    def constant(*values: float) -> Callable[[Tensor], Tensor]:
        return lambda weight: weight.copy_(weight.new_tensor(values))

    def attention(weight: Tensor) -> None:
        uniform(config.attention_init_gain)(weight[: 3 * width])
        uniform(config.attention_output_init_gain)(weight[3 * width :])

    return dict.fromkeys(ZERO, nn.init.zeros_) | {
        "head": normal(config.head_init_std),
        "value_embedding": normal(config.value_embedding_init_std),
        "bigram_lambda": constant(config.bigram_lambda),
        "attention": attention,
        "mlp_in": uniform(config.mlp_init_gain),
        "residual_lambda": constant(config.residual_lambda),
        "embedding_lambda": constant(config.embedding_lambda),
        "attention_lambda": constant(config.attention_input_lambda, config.attention_output_lambda),
        "smear_lambda": constant(config.smear_lambda),
        "skip_lambda": constant(config.skip_lambda),
        "backout_lambda": constant(config.backout_lambda),
        "dense_connection_in": uniform(1 / math.sqrt(3)),  # bound 1 / sqrt(width)
        "residual_gain": constant(math.sqrt(config.residual_lambda)),
        "output_gain": constant(1.0),
        "value_residual": constant(1 - config.value_residual_lambda, config.value_residual_lambda),
        "token_gain_in": uniform(1 / math.sqrt(3)),
        "token_gain_scale": constant(0.1),
    }
