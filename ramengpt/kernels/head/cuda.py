# ruff: noqa: PLR0917
"""The softcapped head and loss on a GPU: per chunk of tokens three GEMMs and one small kernel.

1. `exponentials_kernel` computes z = x W^T and stores u = e (1 - t^2) instead of z: the gradient
   before normalisation. Each tile writes the sum of its e = exp(logit - scale / 2).
2. `targets_kernel`, the small one, adds up those sums to S_t, writes the losses, and corrects u at
   the token's targets, the only elements that need S: (e - share S) (1 - t^2).
3. dz = r u with r_t = weight_t scale / (4 divisor S_t), one factor per row. So dx = r (u W) and
   dW += u^T (r x), by cuBLAS: r multiplies D columns and never V, and the sum over chunks is in
   W's dtype (float32).

Without gradients nothing is stored, and the sigmoids are exact instead of approximate. On GPUs
with TMA, `persistent_exponentials` replaces the first kernel.

Shapes: T packed tokens, K targets of a token, C tokens of a chunk, D width, V rows of the head, N
column tiles.
"""

import torch
import triton
from torch import Tensor

from ramengpt.kernels.head.persistent import persistent_exponentials
from ramengpt.kernels.head.triton_kernels import exponentials_kernel, targets_kernel
from ramengpt.kernels.tiles import add_product, dot_precision, product_tile, supports_tma

GPU_CHUNK_TOKENS = 8192  # as fast as longer chunks, in less memory


def chunked_on_cuda(
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
    """Losses [T, K], and the gradients of x and W (empty unless asked for).

    Arguments as for `softcapped_cross_entropy`, but for the weights: those of a token add up to
    `totals_T`, of which each target has its share. CPU tensors are for Triton's interpreter.
    """
    num_tokens = len(x_TD)
    softcap = halves(scale, shift, divisor)
    x_TD, targets_TK = x_TD.contiguous(), targets_TK.contiguous()
    totals_T, shares_TK = totals_T.contiguous(), shares_TK.contiguous()
    weight = weight_VD.to(x_TD.dtype).contiguous()
    approximate = with_gradients and x_TD.is_cuda and x_TD.dtype != torch.float32
    persistent = approximate and supports_tma(x_TD, weight)
    losses_TK, factors_T = torch.empty_like(shares_TK), torch.empty_like(totals_T)
    grad_x_TD = torch.empty_like(x_TD) if with_gradients else x_TD.new_empty(0)
    grad_weight_VD = torch.zeros_like(weight_VD) if with_gradients else weight_VD.new_empty(0)
    chunk_tokens = min(GPU_CHUNK_TOKENS, num_tokens)
    u_CV = x_TD.new_empty((chunk_tokens, len(weight)) if with_gradients else 0)
    scaled_x_CD = torch.empty_like(x_TD[:chunk_tokens] if with_gradients else grad_x_TD)
    for start in range(0, num_tokens, chunk_tokens):
        chunk = slice(start, start + chunk_tokens)
        x = x_TD[chunk]
        u, scaled_x = u_CV[: len(x)], scaled_x_CD[: len(x)]
        multiply = persistent_exponentials if persistent else exponentials
        sums_NC = multiply(x, weight, u, vocabulary, softcap, approximate)
        targets = (targets_TK[chunk], totals_T[chunk], shares_TK[chunk])
        gradients = (u, factors_T[chunk], scaled_x)
        finish_targets(
            x, weight, *targets, sums_NC, losses_TK[chunk], *gradients, softcap, approximate
        )
        if with_gradients:
            torch.mm(u, weight, out=grad_x_TD[chunk])
            add_product(grad_weight_VD, u.T, scaled_x)
    if with_gradients:
        grad_x_TD.mul_(factors_T[:, None])
    return losses_TK, grad_x_TD, grad_weight_VD


def halves(scale: float, shift: float, divisor: float) -> tuple[float, float, float]:
    """The softcap as the kernels take it: scale / 2, 1 / (2 divisor), shift / (2 divisor)."""
    return scale / 2, 0.5 / divisor, 0.5 * shift / divisor


def exponentials(
    x_CD: Tensor,
    weight_VD: Tensor,
    u_CV: Tensor,
    vocabulary: int,
    softcap: tuple[float, float, float],
    approximate: bool,
    tile: dict[str, int] | None = None,
) -> Tensor:
    """Multiply a chunk; fill `u_CV` if it has elements.

    Args:
        x_CD: [C, D], contiguous, in the dtype of `weight_VD`.
        weight_VD: [V, D], contiguous.
        u_CV: [C, V] or empty, written.
        vocabulary: columns that count.
        softcap: from :func:`halves`.
        approximate: tanh in one instruction.
        tile: launch parameters other than `product_tile`'s, for measurements.

    Returns:
        float32 [N, C]: every column tile's sums of exponentials.
    """
    tile = tile or product_tile(x_CD.dtype)
    num_rows, width = x_CD.shape
    row_tiles = triton.cdiv(num_rows, tile["BLOCK_M"])
    column_tiles = triton.cdiv(len(weight_VD), tile["BLOCK_N"])
    sums_NC = x_CD.new_empty(column_tiles, num_rows, dtype=torch.float32)
    exponentials_kernel[(row_tiles * column_tiles,)](
        *(x_CD, weight_VD, u_CV, sums_NC),
        *(num_rows, len(weight_VD), vocabulary, width),
        *softcap,
        STORE=u_CV.numel() > 0,
        APPROXIMATE=approximate,
        PRECISION=dot_precision(x_CD.dtype),
        **tile,
    )
    return sums_NC


def finish_targets(
    x_CD: Tensor,
    weight_VD: Tensor,
    targets_CK: Tensor,
    totals_C: Tensor,
    shares_CK: Tensor,
    sums_NC: Tensor,
    losses_CK: Tensor,
    u: Tensor,
    factors_C: Tensor,
    scaled_x_CD: Tensor,
    softcap: tuple[float, float, float],
    approximate: bool,
    *,
    exclude_targets: bool = False,
) -> None:
    """Fill `losses_CK`; if `u` has elements, correct it and fill `factors_C` and `scaled_x_CD`.

    Args:
        x_CD: [C, D], contiguous.
        weight_VD: [V, D], contiguous.
        targets_CK: integers [C, K], contiguous.
        totals_C: float32 [C], the sum of a token's weights.
        shares_CK: float32 [C, K], contiguous: each target's share of it.
        sums_NC: from :func:`exponentials`.
        losses_CK: float32 [C, K], written.
        u: [C, V] from :func:`exponentials`, or empty.
        factors_C: float32 [C], written: r.
        scaled_x_CD: [C, D], written: r x.
        softcap: as for :func:`exponentials`.
        approximate: as for :func:`exponentials`.
        exclude_targets: the sums lack the first targets' e, and `u` is float32 [C, K], written:
            what each target adds to the row's element.
    """
    num_rows, width = x_CD.shape
    block_rows = 16
    targets_kernel[(triton.cdiv(num_rows, block_rows),)](
        *(x_CD, weight_VD, targets_CK, totals_C, shares_CK, sums_NC, losses_CK),
        *(u, factors_C, scaled_x_CD),
        *(num_rows, len(weight_VD), len(sums_NC), width),
        *softcap,
        WITH_GRADIENTS=u.numel() > 0,
        EXCLUDE_TARGETS=exclude_targets,
        NUM_TARGETS=targets_CK.shape[1],
        APPROXIMATE=approximate,
        BLOCK_ROWS=block_rows,
        BLOCK_TILES=64,
        BLOCK_WIDTH=128,
    )
