# ruff: noqa: PLR0917
"""The softcapped head and loss on a GPU: four kernels a chunk of tokens, two of them products.

1. `logits_kernel` multiplies z = x W^T; each tile leaves the sum of its exponentials, so nobody
   reads z to normalise it.
2. dz replaces z. Wide models store z and `gradient_kernel` turns it into dz in place, one read and
   one write; narrow ones multiply again instead, which is cheaper than moving z.
3. dx = dz W and dW += dz^T x by cuBLAS, the sum over chunks in W's dtype (float32).

Then `token_losses_kernel` once: the target's logit is a dot product of two rows, exact in float32.
Without gradients only kernel 1 runs, storing nothing, with exact instead of approximate sigmoids.

Shapes: T packed tokens, C tokens of a chunk, D width, V rows of the head, N column tiles.
"""

import torch
import triton
from torch import Tensor

from ramengpt.kernels.softcapped_cross_entropy_triton import (
    gradient_kernel,
    logits_kernel,
    token_losses_kernel,
)
from ramengpt.kernels.tiles import add_product, dot_precision, product_tile

CHUNK_TOKENS = 16_384  # 128 tiles of 128 rows: one wave on 132 multiprocessors
RECOMPUTE_WIDTH = 256  # up to here z is multiplied twice; 4 D operations against 4 bytes a logit


def chunked_on_cuda(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets_T: Tensor,
    weights_T: Tensor,
    vocabulary: int,
    scale: float,
    shift: float,
    divisor: float,
    with_gradients: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Token losses [T], and the gradients of x and W (empty unless asked for).

    Arguments as for `softcapped_cross_entropy`, `weights_T` given. CPU tensors are for Triton's
    interpreter.
    """
    num_tokens, width = x_TD.shape
    num_columns = len(weight_VD)
    softcap = (scale / 2, 0.5 / divisor, 0.5 * shift / divisor)
    x_TD, targets_T, weights_T = x_TD.contiguous(), targets_T.contiguous(), weights_T.contiguous()
    weight = weight_VD.to(x_TD.dtype).contiguous()
    approximate = with_gradients and x_TD.is_cuda and x_TD.dtype != torch.float32
    sums_T = torch.empty(num_tokens, dtype=torch.float32, device=x_TD.device)
    grad_x_TD = torch.empty_like(x_TD) if with_gradients else x_TD.new_empty(0)
    grad_weight_VD = torch.zeros_like(weight_VD) if with_gradients else weight_VD.new_empty(0)
    chunk_tokens = min(CHUNK_TOKENS, num_tokens)
    dz_CV = x_TD.new_empty((chunk_tokens, num_columns) if with_gradients else 0)
    for start in range(0, num_tokens, chunk_tokens):
        chunk = slice(start, start + chunk_tokens)
        x, sums_C = x_TD[chunk], sums_T[chunk]
        if not with_gradients:
            logits_and_sums(x, weight, dz_CV, sums_C, vocabulary, softcap, approximate)
            continue
        dz = dz_CV[: len(x)]
        reweighted = (targets_T[chunk], weights_T[chunk])
        if width <= RECOMPUTE_WIDTH:
            nothing = dz.new_empty(0)
            logits_and_sums(x, weight, nothing, sums_C, vocabulary, softcap, approximate)
            gradient_from_x(x, weight, dz, sums_C, *reweighted, vocabulary, softcap, approximate)
        else:
            logits_and_sums(x, weight, dz, sums_C, vocabulary, softcap, approximate)
            gradient_in_place(dz, sums_C, *reweighted, vocabulary, softcap, approximate)
        torch.mm(dz, weight, out=grad_x_TD[chunk])
        add_product(grad_weight_VD, dz.T, x)
    losses_T = torch.empty_like(sums_T)
    block_rows = 16
    token_losses_kernel[(triton.cdiv(num_tokens, block_rows),)](
        *(x_TD, weight, targets_T, sums_T, losses_T, num_tokens, width),
        *softcap,
        BLOCK_ROWS=block_rows,
        BLOCK_WIDTH=128,
    )
    return losses_T, grad_x_TD, grad_weight_VD


def logits_and_sums(
    x_CD: Tensor,
    weight_VD: Tensor,
    z_CV: Tensor,
    sums_C: Tensor,
    vocabulary: int,
    softcap: tuple[float, float, float],
    approximate: bool,
    tile: dict[str, int] | None = None,
) -> None:
    """Fill `z_CV` (if it has elements) and `sums_C`, the sums of exponentials of a chunk.

    Args:
        x_CD: [C, D], contiguous, in the dtype of `weight_VD`.
        weight_VD: [V, D], contiguous.
        z_CV: [C, V] or empty, written.
        sums_C: float32 [C], written.
        vocabulary: columns that count.
        softcap: scale / 2, 1 / (2 divisor), shift / (2 divisor).
        approximate: tanh in one instruction.
        tile: launch parameters other than `product_tile`'s, for measurements.
    """
    tile = tile or product_tile(x_CD.dtype)
    column_tiles = triton.cdiv(len(weight_VD), tile["BLOCK_N"])
    partial_sums_NC = sums_C.new_empty(column_tiles, len(x_CD))
    mode = "logits" if z_CV.numel() else "sums"
    _launch(x_CD, weight_VD, z_CV, partial_sums_NC, vocabulary, softcap, mode, approximate, tile)
    torch.sum(partial_sums_NC, 0, out=sums_C)


def gradient_from_x(
    x_CD: Tensor,
    weight_VD: Tensor,
    dz_CV: Tensor,
    sums_C: Tensor,
    targets_C: Tensor,
    weights_C: Tensor,
    vocabulary: int,
    softcap: tuple[float, float, float],
    approximate: bool,
    tile: dict[str, int] | None = None,
) -> None:
    """Fill `dz_CV` from the finished sums, multiplying once more; see `logits_and_sums`."""
    # Fewer registers than it would like, so that two programs share a multiprocessor.
    tile = tile or product_tile(x_CD.dtype) | {"maxnreg": 128}
    extra = {"targets_C": targets_C, "weights_C": weights_C}
    _launch(
        x_CD, weight_VD, dz_CV, sums_C, vocabulary, softcap, "gradient", approximate, tile, **extra
    )


def gradient_in_place(
    z_CV: Tensor,
    sums_C: Tensor,
    targets_C: Tensor,
    weights_C: Tensor,
    vocabulary: int,
    softcap: tuple[float, float, float],
    approximate: bool,
) -> None:
    """Turn `z_CV` into dz; see `logits_and_sums`."""
    num_rows, num_columns = z_CV.shape
    gradient_kernel[(num_rows,)](
        *(z_CV, sums_C, targets_C, weights_C, num_columns, vocabulary),
        *softcap,
        APPROXIMATE=approximate,
        BLOCK_COLUMNS=4096,
        num_warps=8,
    )


def _launch(
    x_CD: Tensor,
    weight_VD: Tensor,
    out_CV: Tensor,
    sums: Tensor,
    vocabulary: int,
    softcap: tuple[float, float, float],
    mode: str,
    approximate: bool,
    tile: dict[str, int],
    targets_C: Tensor | None = None,
    weights_C: Tensor | None = None,
) -> None:
    """Start `logits_kernel` in one of its modes."""
    num_rows, width = x_CD.shape
    row_tiles = triton.cdiv(num_rows, tile["BLOCK_M"])
    logits_kernel[(row_tiles * triton.cdiv(len(weight_VD), tile["BLOCK_N"]),)](
        *(x_CD, weight_VD, out_CV, sums, targets_C, weights_C),
        *(num_rows, len(weight_VD), vocabulary, width),
        *softcap,
        MODE=mode,
        APPROXIMATE=approximate,
        PRECISION=dot_precision(x_CD.dtype),
        **tile,
    )
