"""The MLP of a block, with the activations to choose from.

Shapes: T packed tokens, D width, F inner units.

Sources: squared ReLU from Primer (2109.08668); gated variants from Shazeer (2002.05202).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.kernels.relu_squared_mlp import linear_relu_squared_mlp
from ramengpt.kernels.relu_squared_mlp_float8 import float8_relu_squared_mlp
from ramengpt.model.parameters import make_parameter


def _squared(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: activation(x).square()


def _identity(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_squared": _squared(F.gelu),
    "silu": F.silu,
    "silu_squared": _squared(F.silu),
    "swish": F.silu,
    "swish_squared": _squared(F.silu),
    "linear": _identity,
    "identity": _identity,
    "swiglu": F.silu,
    "geglu": F.gelu,
}
"""By name in params.yaml; for the gated ones, the function applied to the gate.

The default, relu_squared, is not here: it is fused with its GEMMs.
"""


LARGEST_H = "largest_h"
"""The buffer of an MLP that trains in float8; no part of the trained weights."""


class MLP(nn.Module):
    """Two matrices around an activation.

    `weight_in` is [F, D], or [2F, D] with the gate's rows first; `weight_out` is [F, D] and
    multiplies from the right, so that both face the residual stream with dim 1.

    With `float8`, training multiplies in float8, and `largest_h` is state that a checkpoint needs;
    without gradients it never does.
    """

    largest_h: Tensor

    def __init__(self, config: NetworkConfig, *, float8: bool = False) -> None:
        super().__init__()
        self.float8 = float8
        if float8:
            self.register_buffer(LARGEST_H, torch.zeros(()))
        units, width = config.ffn_units, config.width
        self.activation = ACTIVATIONS.get(config.activation)  # None for relu_squared
        self.gated = config.gated
        if config.gated:
            self.weight_in = make_parameter("mlp_in", 2 * units, width, residual_dims=(1, 1))
        else:
            self.weight_in = make_parameter("mlp_in", units, width)
        self.weight_out = make_parameter("mlp_out", units, width)

    def forward(self, x_TD: Tensor) -> Tensor:
        """Map [T, D], normed, to [T, D], to be added to the residual stream."""
        if self.activation is None:
            if self.float8 and torch.is_grad_enabled():
                return self._in_float8(x_TD)
            return linear_relu_squared_mlp(x_TD, self.weight_in, self.weight_out)
        hidden_TF = F.linear(x_TD, self.weight_in.to(x_TD.dtype))
        if self.gated:
            gate_TF, value_TF = hidden_TF.chunk(2, dim=-1)
            hidden_TF = self.activation(gate_TF) * value_TF
        else:
            hidden_TF = self.activation(hidden_TF)
        return hidden_TF @ self.weight_out.to(x_TD.dtype)

    def _in_float8(self, x_TD: Tensor) -> Tensor:
        y_TD, largest_h = float8_relu_squared_mlp(
            x_TD, self.weight_in, self.weight_out, self.largest_h
        )
        with torch.no_grad():
            self.largest_h.copy_(largest_h)
        return y_TD
