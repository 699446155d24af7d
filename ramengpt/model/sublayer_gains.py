"""Learned weights of the residual stream and of the output where a sublayer is added to it.

    x <- r x + p f(norm(x))        for every attention and every MLP

r starts at the root of `residual_lambda`, so that a layer of two sublayers keeps as much of its
input as with one weight for both; p starts at 1.

Source: modded-nanogpt (2026).
"""

from torch import Tensor, nn

from ramengpt.model.parameters import make_parameter


class SublayerGains(nn.Module):
    """The two weights of one sublayer."""

    def __init__(self) -> None:
        super().__init__()
        self.residual = make_parameter("residual_gain", 1)
        self.output = make_parameter("output_gain", 1)

    def forward(self, x: Tensor, output: Tensor) -> Tensor:
        """Weigh and add, in the dtype of `x`; the shapes broadcast."""
        # In float32: rounded to bfloat16, weights near 1 would only move in steps of 0.008.
        return (self.residual * x + self.output * output).to(x.dtype)
