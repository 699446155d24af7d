"""Dense connections: each token decides how much of earlier layers' outputs it adds.

    c = scale (W_out gelu(W_in norm(x)) + b)        one coefficient per source and token
    x <- x + sum over the sources i of c_i h_i

One stands before the last layer and one before the head, the two places where the speedrun kept
them. W_out and b start at zero, so the network starts as if they were absent.

Shapes: T packed tokens, D width, F hidden units, N sources.

Source: MUDDFormer (2502.12170), trimmed as in modded-nanogpt.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.model.norm import rms_norm
from ramengpt.model.parameters import make_parameter

COEFFICIENT_SCALE = 0.1
"""Slows the coefficients down: Adam's step has the size of the learning rate at any scale."""


class DenseConnection(nn.Module):
    """Add a mix of earlier layers' outputs to the residual stream, weighted per token."""

    def __init__(self, config: NetworkConfig, num_sources: int) -> None:
        """Make the parameters.

        Args:
            config: the network.
            num_sources: N.
        """
        super().__init__()
        units = config.dense_connection_units
        self.weight_in = make_parameter("dense_connection_in", units, config.width)
        self.weight_out = make_parameter("dense_connection_out", num_sources, units)
        self.bias = make_parameter("dense_connection_bias", num_sources)

    def forward(self, x: Tensor, sources: Sequence[Tensor]) -> Tensor:
        """Mix.

        Args:
            x: [T, D], the residual stream; of several streams each has coefficients of its own.
            sources: N outputs of earlier layers, [T, D] or the shape of `x`.

        Returns:
            The shape of `x`.
        """
        dtype = x.dtype
        hidden = F.gelu(F.linear(rms_norm(x), self.weight_in.to(dtype)))
        coefficients = F.linear(hidden, self.weight_out.to(dtype), self.bias.to(dtype))
        for coefficient, source in zip(
            (COEFFICIENT_SCALE * coefficients)[..., None].unbind(-2), sources, strict=True
        ):
            x = torch.addcmul(x, coefficient, source)
        return x
