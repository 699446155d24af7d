# ruff: noqa: PLR0917
"""The softcapped head and loss in plain PyTorch: on a CPU, and on GPUs without our kernels.

Shapes: T packed tokens, K targets of a token, D width, V rows of the head, C tokens of a chunk, S
tokens of a slice.
"""

import math

import torch
from torch import Tensor

CHUNK_TOKENS = 512  # long enough for the matrix products to run at full speed
SLICE_TOKENS = 16  # short enough that elementwise passes after the first hit a CPU's cache
GPU_CHUNK_TOKENS = 2048  # one slice: a GPU wants few launches; takes 1.2 GB of logits in float32


def chunked_plain(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets_TK: Tensor,
    totals_T: Tensor,
    shares_TK: Tensor,
    vocabulary: int,
    scale: float,
    shift: float,
    divisor: float,
    with_gradients: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [T, K] and gradients by plain PyTorch, in as few passes over the logits as it can.

    A token's weights add up to `totals_T`, of which each target has its share.
    The products run in the dtype of x. What is elementwise runs in float32 on slices that stay in
    the cache.
    """
    weight = weight_VD[:vocabulary].to(x_TD.dtype)
    losses_TK = torch.empty_like(shares_TK)
    grad_x_TD = torch.empty_like(x_TD) if with_gradients else x_TD.new_empty(0)
    grad_weight_VD = torch.zeros_like(weight_VD) if with_gradients else weight_VD.new_empty(0)
    # Transposed, since the GEMM is faster that way round.
    grad_weight_DV = totals_T.new_zeros(weight.T.shape if with_gradients else 0)
    chunk_tokens = min(GPU_CHUNK_TOKENS if x_TD.is_cuda else CHUNK_TOKENS, len(x_TD))
    slice_tokens = chunk_tokens if x_TD.is_cuda else SLICE_TOKENS
    logits_CV = x_TD.new_empty(chunk_tokens, vocabulary)
    scratch_SV = tuple(totals_T.new_empty(slice_tokens, vocabulary) for _ in range(2))
    sums_C1 = totals_T.new_empty(chunk_tokens, 1)
    for start in range(0, len(x_TD), chunk_tokens):
        chunk = slice(start, start + chunk_tokens)
        x = x_TD[chunk]
        z = torch.mm(x, weight.T, out=logits_CV[: len(x)])
        for first in range(0, len(x), slice_tokens):
            rows = slice(first, first + slice_tokens)
            targets = (targets_TK[chunk][rows].long(), shares_TK[chunk][rows])
            losses_TK[chunk][rows], sums_C1[: len(x)][rows] = _slice_losses(
                z[rows], *targets, (scale, shift, divisor), scratch_SV, with_gradients
            )
        if with_gradients:
            factors = totals_T[chunk, None] * (scale / divisor) / sums_C1[: len(x)]
            grad_x_TD[chunk] = torch.mm(z, weight).mul_(factors)
            grad_weight_DV += (x * factors).to(x.dtype).T @ z
    if with_gradients:
        grad_weight_VD[:vocabulary] = grad_weight_DV.T
    return losses_TK, grad_x_TD, grad_weight_VD


def _slice_losses(
    z_SV: Tensor,
    targets_SK: Tensor,
    shares_SK: Tensor,
    softcap: tuple[float, float, float],
    scratch_SV: tuple[Tensor, ...],
    with_gradients: bool,
) -> tuple[Tensor, Tensor]:
    """Losses [S, K] of a few tokens and their sums [S, 1]; turns `z_SV` in place into u if asked.

    Powers of two, since PyTorch's exp2 takes a quarter of the time of its exp.
    """
    scale, shift, divisor = softcap
    sigmoid, exponential = (scratch[: len(z_SV)] for scratch in scratch_SV)
    bits = scale / math.log(2)
    sigmoid.copy_(z_SV)
    torch.add(sigmoid.new_tensor([shift / divisor]), sigmoid, alpha=1 / divisor, out=sigmoid)
    sigmoid.sigmoid_()
    torch.add(sigmoid.new_tensor([-bits / 2]), sigmoid, alpha=bits, out=exponential)
    sums_S1 = exponential.exp2_().sum(1, keepdim=True)
    logits_SK = scale * (sigmoid.gather(1, targets_SK) - 0.5)
    if with_gradients:
        exponential.scatter_add_(1, targets_SK, -sums_S1 * shares_SK)
        torch.ops.aten.sigmoid_backward.grad_input(exponential, sigmoid, grad_input=exponential)
        z_SV.copy_(exponential)
    return sums_S1.log() - logits_SK, sums_S1
