"""Hyper-connections: several residual streams, which every sublayer reads, mixes and writes.

    input = sum_i read_i s_i    s_j <- sum_i mix_ij s_i + write_j f(norm(input))
    [read_i, mix_i., write_i] = base_i + bias_i + 0.01 tanh(W norm(s_i))

`base` reads one stream, in turn by sublayer, mixes none and writes to all; W and bias start at 0.
The streams start as copies of the embedding and the head reads their mean: so at first the network
is exactly the one with a single stream. Mixing starts at the identity itself, not at a softmax or
Sinkhorn iteration that saturates there, through which no gradient would pass.

Shapes: N streams, T packed tokens, D width.

Source: dynamic hyper-connections (2409.19606).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.model.norm import rms_norm
from ramengpt.model.parameters import make_parameter

DYNAMIC_SCALE = 0.01
"""Of what a token changes about its coefficients."""


class HyperConnection(nn.Module):
    """What one sublayer does to the streams."""

    base: Tensor

    def __init__(self, config: NetworkConfig, sublayer: int) -> None:
        """Make the parameters.

        Args:
            config: the network.
            sublayer: counts attentions and MLPs; which stream is read at first.
        """
        super().__init__()
        streams = config.hyper_connection_streams
        self.weight = make_parameter("hyper_connection_weight", streams + 2, config.width)
        self.bias = make_parameter("hyper_connection_bias", streams, streams + 2)
        read = F.one_hot(torch.tensor(sublayer % streams), streams)[:, None]
        base = torch.cat([read, torch.eye(streams), torch.ones(streams, 1)], dim=1)
        self.register_buffer("base", base.to(self.bias.device), persistent=False)

    def forward(self, x_NTD: Tensor, read_NTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients from the streams, and what they make of them.

        Args:
            x_NTD: the streams.
            read_NTD: what the sublayer reads: the streams, or those after an earlier layer.

        Returns:
            The sublayer's input [T, D], the mixed streams [N, T, D], and the weights [N, T, 1],
            float32 or wider, with which its output is to be added to them.
        """
        dtype = x_NTD.dtype
        dynamic = torch.tanh(F.linear(rms_norm(x_NTD), self.weight.to(dtype)))
        # A coefficient [T, 1] for each stream and use of it. Rounded to bfloat16, those near 1
        # would only move in steps of 0.008.
        static = (self.base + self.bias)[:, None]
        read, *mix, write_NT1 = (static + DYNAMIC_SCALE * dynamic)[..., None].unbind(2)
        input_TD = (read * read_NTD).sum(0).to(dtype)
        mixed_NTD = torch.stack([(weights * x_NTD).sum(0).to(dtype) for weights in mix])
        return input_TD, mixed_NTD, write_NT1
