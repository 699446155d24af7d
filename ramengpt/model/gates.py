"""The two gated connections of the network beside attention: smear and skip.

Shapes: T packed tokens, D width, G inputs of a gate.

Source: modded-nanogpt.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.model.attention_backend import AttentionContext
from ramengpt.model.parameters import make_parameter


class Smear(nn.Module):
    """Add a gated part of the embedding before to each embedding, within a document."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.gate = make_parameter("smear_gate", 1, config.gate_inputs)
        self.smear_lambda = make_parameter("smear_lambda", 1)

    def forward(self, x_TD: Tensor, context: AttentionContext) -> Tensor:
        """e_t + lambda sigmoid(g . e_t) e_(t-1), for embeddings [T, D]."""
        earlier_TD = context.look_back("embeddings", x_TD, at_start=torch.zeros_like(x_TD))
        open_T1 = _open(self.gate, x_TD)
        return x_TD + (self.smear_lambda.to(x_TD.dtype) * open_T1) * earlier_TD


class SkipConnection(nn.Module):
    """How much of an earlier layer's output is added at a later layer."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.gate = make_parameter("skip_gate", 1, config.gate_inputs)
        self.skip_lambda = make_parameter("skip_lambda", 1)

    def forward(self, x0_TD: Tensor) -> Tensor:
        """sigmoid(lambda) 2 sigmoid(g . x0_t): [T, 1], from the normed embeddings [T, D]."""
        return torch.sigmoid(self.skip_lambda).to(x0_TD.dtype) * 2 * _open(self.gate, x0_TD)


def _open(gate_1G: Tensor, x_TD: Tensor) -> Tensor:
    return torch.sigmoid(F.linear(x_TD[:, : gate_1G.size(1)], gate_1G.to(x_TD.dtype)))
