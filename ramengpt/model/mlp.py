"""The MLP of a block, with the activations to choose from.

Shapes: T packed tokens, D width, F inner units.

Sources: squared ReLU from Primer (2109.08668); gated variants from Shazeer (2002.05202).
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.kernels.relu_squared_mlp import linear_relu_squared_mlp
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


class MLP(nn.Module):
    """Two matrices around an activation.

    `weight_in` is [F, D], or [2F, D] with the gate's rows first; `weight_out` is [F, D] and
    multiplies from the right, so that both face the residual stream with dim 1.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
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
            return linear_relu_squared_mlp(x_TD, self.weight_in, self.weight_out)
        hidden_TF = F.linear(x_TD, self.weight_in.to(x_TD.dtype))
        if self.gated:
            gate_TF, value_TF = hidden_TF.chunk(2, dim=-1)
            hidden_TF = self.activation(gate_TF) * value_TF
        else:
            hidden_TF = self.activation(hidden_TF)
        return hidden_TF @ self.weight_out.to(x_TD.dtype)
