"""One layer: attention, then MLP, each added to the residual stream.

Shapes: T packed tokens, D width, H heads, K head_dim. With hyper-connections the residual stream is
[N, T, D], and what is added to all of its N streams broadcasts.
"""

from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.kernels.qkv_prologue import Rotation
from ramengpt.model.attention import Attention
from ramengpt.model.attention_backend import AttentionContext
from ramengpt.model.hyper_connections import HyperConnection
from ramengpt.model.mlp import MLP
from ramengpt.model.norm import rms_norm_recomputed
from ramengpt.model.sublayer_gains import SublayerGains


class ResidualConnection(nn.Module):
    """How a sublayer reads the residual stream, and how its output is added to it."""

    def __init__(self, config: NetworkConfig, sublayer: int) -> None:
        """Make the parts that are on.

        Args:
            config: the network.
            sublayer: 2 x layer for attention, 2 x layer + 1 for the MLP.
        """
        super().__init__()
        self.streams = HyperConnection(config, sublayer) if config.hyper_connections else None
        self.gains = SublayerGains() if config.sublayer_gains else None

    def read(self, x: Tensor, read: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The sublayer's normed input [T, D], what stays of x, and the output's weight."""
        weight = None
        if self.streams is not None:
            read, x, weight = self.streams(x, read)
        return rms_norm_recomputed(read), x, weight

    def add(self, x: Tensor, output_TD: Tensor, weight: Tensor | None) -> Tensor:
        """The residual stream with the output added."""
        output = output_TD if weight is None else (weight * output_TD).to(x.dtype)
        return x + output if self.gains is None else self.gains(x, output)


class Block(nn.Module):
    """Layer number `layer`; `attention` is None where the pattern has none."""

    def __init__(self, config: NetworkConfig, layer: int, *, float8_mlp: bool = False) -> None:
        super().__init__()
        self.attention = self.around_attention = None
        if config.attention_pattern[layer] != "-":
            self.attention = Attention(config, layer)
            self.around_attention = ResidualConnection(config, 2 * layer)
        self.mlp = MLP(config, float8=float8_mlp)
        self.around_mlp = ResidualConnection(config, 2 * layer + 1)

    def forward(
        self,
        x: Tensor,
        *,
        attended: Tensor,
        value_TD: Tensor | None,
        first_value_THK: Tensor | None,
        attention_lambdas_2: Tensor | None,
        between_TD: Tensor | None,
        rotation: Rotation,
        context: AttentionContext,
    ) -> tuple[Tensor, Tensor | None]:
        """Add the outputs of attention and MLP to the residual stream.

        Args:
            x: [T, D], the residual stream.
            attended: what attention reads: the residual stream, or an earlier layer's.
            value_TD: see :class:`Attention`.
            first_value_THK: see :class:`Attention`.
            attention_lambdas_2: see :class:`Attention`; None without them.
            between_TD: added to the residual stream between attention and MLP; None for nothing.
            rotation: see :class:`Attention`.
            context: see :class:`Attention`.

        Returns:
            The residual stream after this layer, and the values [T, H, K] that it attended to.
        """
        v_THK = None
        if self.attention is not None and self.around_attention is not None:
            normed_TD, x, weight = self.around_attention.read(x, attended)
            y_TD, v_THK = self.attention(
                normed_TD,
                value_TD=value_TD,
                first_value_THK=first_value_THK,
                lambdas_2=attention_lambdas_2,
                rotation=rotation,
                context=context,
            )
            x = self.around_attention.add(x, y_TD, weight)
        if between_TD is not None:
            x = x + between_TD
        normed_TD, x, weight = self.around_mlp.read(x, x)
        return self.around_mlp.add(x, self.mlp(normed_TD), weight), v_THK
