# ruff: noqa: PLR0917
"""The softcapped head and loss with float8 products, for training on GPUs with TMA.

As `ramengpt.kernels.head.cuda`, with other operands for the tensor cores:

    x, W, r x   e4m3, each scaled so that its largest element just fits
    u           e5m2, whose range holds that of e, in two layouts, since float8 GEMMs need both
                operands contiguous along the inner dim

except for the targets: share - p is far larger than any other element of its row, so the first
target's element and every target's share stay out of the float8 operands; what they add to the
loss, dx and dW is computed from x and W in their own dtype.

Shapes: T packed tokens, K targets of a token, C tokens of a chunk, D width, V rows of the head.
Source: float8 formats and which is for what, 2209.05433; a head in float8, modded-nanogpt.
"""

import math

import torch
from torch import Tensor

from ramengpt.kernels.head.cuda import GPU_CHUNK_TOKENS, finish_targets, halves
from ramengpt.kernels.head.persistent import persistent_exponentials

_E4M3, _E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def to_float8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round to e4m3 so that the largest element just fits.

    Args:
        x: floating, any shape.

    Returns:
        e4m3, contiguous, and the float32 scalar that it must be multiplied by.
    """
    largest = torch.linalg.vector_norm(x, math.inf, dtype=torch.float32)
    scale = (largest / torch.finfo(_E4M3).max).clamp(min=torch.finfo(torch.float32).tiny)
    return (x / scale).to(_E4M3).contiguous(), scale


def largest_power_for_u(half_scale: float) -> float:
    """The power of two that brings u = e (1 - t^2), e = exp(half_scale t), near e5m2's end.

    u is largest where half_scale (1 - t^2) = 2 t.
    """
    t = (math.sqrt(1 + half_scale**2) - 1) / half_scale
    largest = math.exp(half_scale * t) * (1 - t * t)
    return 2.0 ** math.floor(math.log2(torch.finfo(_E5M2).max / largest))


def chunked_in_float8(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets_TK: Tensor,
    totals_T: Tensor,
    shares_TK: Tensor,
    vocabulary: int,
    scale: float,
    shift: float,
    divisor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [T, K], and the gradients of x and W; arguments as for `chunked_on_cuda`.

    CPU tensors are for Triton's interpreter.
    """
    num_tokens, rows = len(x_TD), len(weight_VD)
    softcap = halves(scale, shift, divisor)
    x_TD, targets_TK = x_TD.contiguous(), targets_TK.contiguous()
    totals_T, shares_TK = totals_T.contiguous(), shares_TK.contiguous()
    first_targets_T = targets_TK[:, 0].contiguous()
    weight = weight_VD.to(x_TD.dtype).contiguous()
    x8_TD, x_scale = to_float8(x_TD)
    weight8_VD, weight_scale = to_float8(weight)
    weight8_DV = weight8_VD.T.contiguous()
    power = largest_power_for_u(scale / 2)
    u_scale = torch.full((), 1 / power, device=x_TD.device)
    losses_TK, target_u_TK = torch.empty_like(shares_TK), torch.empty_like(shares_TK)
    factors_T = torch.empty_like(totals_T)
    grad_x_TD, grad_weight_VD = torch.empty_like(x_TD), torch.zeros_like(weight_VD)
    chunk_tokens = min(GPU_CHUNK_TOKENS, num_tokens)
    buffers = [torch.empty(chunk_tokens * rows, dtype=_E5M2, device=x_TD.device) for _ in range(2)]
    scaled_x_CD = torch.empty_like(x_TD[:chunk_tokens])
    for start in range(0, num_tokens, chunk_tokens):
        chunk = slice(start, start + chunk_tokens)
        x = x_TD[chunk]
        u_CV, u_VC = (buffer[: len(x) * rows] for buffer in buffers)
        u_CV, u_VC = u_CV.view(len(x), rows), u_VC.view(rows, len(x))
        scaled_x = scaled_x_CD[: len(x)]
        float8 = (u_VC, first_targets_T[chunk], x_scale * weight_scale, power)
        sums_NC = persistent_exponentials(
            x8_TD[chunk], weight8_VD, u_CV, vocabulary, softcap, x_TD.is_cuda, float8=float8
        )
        targets = (targets_TK[chunk], totals_T[chunk], shares_TK[chunk], sums_NC, losses_TK[chunk])
        gradients = (target_u_TK[chunk], factors_T[chunk], scaled_x)
        finish_targets(
            x, weight, *targets, *gradients, softcap, approximate=False, exclude_targets=True
        )
        grad_x_TD[chunk] = _product(u_CV, weight8_DV.T, u_scale, weight_scale, x.dtype)
        scaled_x8_DC, scaled_x_scale = to_float8(scaled_x.T)
        grad_weight_VD += _product(
            u_VC, scaled_x8_DC.T, u_scale, scaled_x_scale, grad_weight_VD.dtype
        )
    grad_x_TD.mul_(factors_T[:, None])
    target_z_TK = factors_T[:, None] * target_u_TK
    for targets_T, target_z_T in zip(targets_TK.unbind(1), target_z_TK.unbind(1), strict=True):
        grad_x_TD.addcmul_(weight[targets_T], target_z_T[:, None].to(x_TD.dtype))
        grad_target_TD = (x_TD * target_z_T[:, None]).to(grad_weight_VD.dtype)
        grad_weight_VD.index_add_(0, targets_T, grad_target_TD)
    return losses_TK, grad_x_TD, grad_weight_VD


def _product(
    left: Tensor, right: Tensor, left_scale: Tensor, right_scale: Tensor, dtype: torch.dtype
) -> Tensor:
    """left @ right in float8, summed in float32; `right` is a transposed contiguous matrix."""
    return torch._scaled_mm(left, right, left_scale, right_scale, out_dtype=dtype)
