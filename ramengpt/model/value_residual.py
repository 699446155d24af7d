"""Value residual: later layers mix their values with those of the first attention.

    v <- a v + b v_first        a and b learned for every layer, a + b = 1 at first

So attention keeps access to the token itself, however much the residual stream has changed.

Shapes: T packed tokens, H heads, K head_dim.

Source: value residual learning (2410.17897), the form with learned weights.
"""

from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.model.parameters import make_parameter


class ValueResidual(nn.Module):
    """The two weights of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weights_2 = make_parameter("value_residual", 2)

    def forward(self, v_THK: Tensor, first_THK: Tensor) -> Tensor:
        """Mix [T, H, K] with the first attention's values of the same tokens."""
        own, first = self.weights_2.split(1)
        return (own * v_THK + first * first_THK).to(v_THK.dtype)


def mixes_values(config: NetworkConfig, layer: int) -> bool:
    """Whether the layer attends, and one before it has."""
    earlier = config.attention_pattern[:layer]
    return (
        config.value_residual
        and config.attention_pattern[layer] != "-"
        and earlier.count("-") < len(earlier)
    )
