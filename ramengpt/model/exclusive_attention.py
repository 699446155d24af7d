"""Exclusive self-attention: each head's output loses its component along the token's own value.

    y <- y - tanh(a) (y . v) / |v|^2 v          a learned for every layer and head, 0 at first

With tanh(a) = 1 the output is orthogonal to the token's own value, so that attention says only what
the residual stream does not hold already.

Shapes: T packed tokens, H heads, K head_dim.

Source: exclusive self attention (2603.09078), with the learned strength of modded-nanogpt.
"""

import torch
from torch import Tensor

SMALLEST_SQUARE = 1e-8
"""Of a value's length: a value of zero takes nothing out."""


def without_own_value(y_THK: Tensor, v_THK: Tensor, strength_H: Tensor) -> Tensor:
    """Subtract the part along the own value.

    Args:
        y_THK: outputs of attention.
        v_THK: the value of the same token.
        strength_H: a.

    Returns:
        [T, H, K]; products are summed in float32 or wider.
    """
    wide = torch.promote_types(y_THK.dtype, torch.float32)
    y, v = y_THK.to(wide), v_THK.to(wide)
    along_TH1 = (y * v).sum(-1, keepdim=True)
    square_TH1 = v.square().sum(-1, keepdim=True).clamp_min(SMALLEST_SQUARE)
    share_H1 = torch.tanh(strength_H.to(wide))[:, None]
    return (y - share_H1 * along_TH1 / square_TH1 * v).to(y_THK.dtype)
