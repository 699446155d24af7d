"""Token gains: each token decides how much of its embedding and bigram every layer adds.

    g = s W_out gelu(W_in x0)
    weight of x0 in layer i: mu_i + g_i        of the bigram embedding: lambda_i + g_(L+i)

W_out starts at zero and s, learned, at 0.1, which slows the gains down: so the network starts as it
is without them. A part that is off takes no gains.

Shapes: T packed tokens, D width, F hidden units, L layers.

Source: the gates of modded-nanogpt (2026), whose form is that of MUDDFormer (2502.12170).
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.model.parameters import make_parameter

GAINED_PARTS = ("embedding_mix", "bigram_embedding")


class TokenGains(nn.Module):
    """The gains of all layers at once."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.gained = [part for part in GAINED_PARTS if getattr(config, part)]
        self.num_layers = config.num_layers
        units, gains = config.token_gain_units, len(self.gained) * config.num_layers
        self.weight_in = make_parameter("token_gain_in", units, config.width)
        self.weight_out = make_parameter("token_gain_out", gains, units)
        self.scale = make_parameter("token_gain_scale", 1)

    def forward(self, x0_TD: Tensor) -> dict[str, Sequence[Tensor]]:
        """Of every part that is on, a gain [T, 1] for each layer.

        Args:
            x0_TD: the normed embeddings.
        """
        dtype = x0_TD.dtype
        hidden_TF = F.gelu(F.linear(x0_TD, self.weight_in.to(dtype)))
        gains = self.scale.to(dtype) * F.linear(hidden_TF, self.weight_out.to(dtype))
        columns = gains[..., None].unbind(1)
        starts = range(0, len(columns), self.num_layers)
        slices = (columns[start : start + self.num_layers] for start in starts)
        return dict(zip(self.gained, slices, strict=True))
