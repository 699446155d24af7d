"""Root-mean-square norm without a gain, the only norm of the network."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

EPSILON = torch.finfo(torch.float32).eps
"""Added to the mean square in every dtype: bfloat16's own epsilon would shrink small vectors."""


def rms_norm(x: Tensor) -> Tensor:
    """Divide by the root mean square over the last dim, computed in float32 or wider.

    Args:
        x: any shape and floating dtype.

    Returns:
        The same shape and dtype; the mean square of every vector is 1.
    """
    return F.rms_norm(x, (x.size(-1),), eps=EPSILON)


def rms_norm_recomputed(x: Tensor) -> Tensor:
    """:func:`rms_norm`, recomputed in a compiled backward pass instead of saved for it.

    Activation checkpointing: one tensor less in memory for each call, for one more pass over `x`.
    """
    if torch.compiler.is_compiling():
        return checkpoint(rms_norm, x, use_reentrant=False)
    return rms_norm(x)
