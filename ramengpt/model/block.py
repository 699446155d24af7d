"""One layer: attention, then MLP, each added to the residual stream.

Shapes: T packed tokens, D width.
"""

from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.kernels.qkv_prologue import Rotation
from ramengpt.model.attention import Attention
from ramengpt.model.attention_backend import AttentionContext
from ramengpt.model.mlp import MLP
from ramengpt.model.norm import rms_norm_recomputed


class Block(nn.Module):
    """Layer number `layer`; `attention` is None where the pattern has none."""

    def __init__(self, config: NetworkConfig, layer: int) -> None:
        super().__init__()
        has_attention = config.attention_pattern[layer] != "-"
        self.attention = Attention(config, layer) if has_attention else None
        self.mlp = MLP(config)

    def forward(
        self,
        x_TD: Tensor,
        attended_TD: Tensor,
        value_TD: Tensor | None,
        attention_lambdas_2: Tensor | None,
        *,
        rotation: Rotation,
        context: AttentionContext,
    ) -> Tensor:
        """Add the outputs of attention and MLP to the residual stream.

        Args:
            x_TD: [T, D], the residual stream.
            attended_TD: [T, D], what attention reads: the residual stream, or an earlier layer's.
            value_TD: see :class:`Attention`.
            attention_lambdas_2: see :class:`Attention`; None without them.
            rotation: see :class:`Attention`.
            context: see :class:`Attention`.

        Returns:
            [T, D], the residual stream after this layer.
        """
        if self.attention is not None:
            x_TD = x_TD + self.attention(
                rms_norm_recomputed(attended_TD), value_TD, attention_lambdas_2, rotation, context
            )
        return x_TD + self.mlp(rms_norm_recomputed(x_TD))
