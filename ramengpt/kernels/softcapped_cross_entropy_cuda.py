# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""The softcapped head and loss on a GPU: four kernels a chunk of tokens, two of them products.

1. `_logits_kernel`: z = x W^T, stored in x's dtype; each tile also leaves the sum of its
   exponentials, so nobody reads z again to normalise it.
2. `_gradient_kernel`: z becomes dz in place, one read and one write.
3. dx = dz W and dW += dz^T x by cuBLAS, the sum over chunks in W's dtype (float32).

Then `_token_losses_kernel` once: the target's logit is a dot product of two rows, exact in float32.
Per logit that is two special-function operations in each of kernels 1 and 2 and two bytes moved
three times outside the products. Without gradients only kernel 1 runs, storing nothing, with exact
instead of approximate sigmoids.

Shapes: T packed tokens, C tokens of a chunk, D width, V rows of the head, N column tiles.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramengpt.kernels.tiles import (
    add_product,
    dot_precision,
    grouped_tile,
    product_of_rows,
    product_tile,
)

CHUNK_TOKENS = 16_384  # 128 tiles of 128 rows: one wave on 132 multiprocessors


@triton.jit
def _half_tanh(z, half_slope, half_shift, APPROXIMATE: tl.constexpr):
    """tanh((z + shift) / (2 divisor)): sigmoid = (1 + tanh) / 2. One instruction if allowed.

    The approximation's relative error is at most 2^-11, about that of a bfloat16 logit.
    """
    argument = z * half_slope + half_shift
    if APPROXIMATE:
        return tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [argument], dtype=tl.float32, is_pure=True, pack=1
        )
    return 1.0 - 2.0 / (1.0 + tl.exp(2.0 * argument))


@triton.jit
def _exponential(tanh, half_scale):
    """exp of the logit, half_scale (1 + tanh): one fused multiply-add and one ex2."""
    scale_for_base_two = half_scale * 1.4426950408889634
    return tl.exp2(scale_for_base_two * tanh + scale_for_base_two)


@triton.jit
def _logits_kernel(
    x_ptr,  # [C, D]
    weight_ptr,  # [V, D]
    out_ptr,  # [C, V]: z or dz, written unless MODE is "sums"
    sums_ptr,  # float32 [N, C], written: sum over the tile's columns of exp(logit); or [C], read
    targets_ptr,  # [C]
    weights_ptr,  # float32 [C]
    num_rows,
    num_columns,
    vocabulary,
    width,
    half_scale,
    half_slope,
    half_shift,
    MODE: tl.constexpr,  # "sums", "logits" (and sums), or "gradient" (from the finished sums)
    APPROXIMATE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One tile of x W^T, and what MODE makes of it."""
    row_tile, column_tile = grouped_tile(num_rows, num_columns, BLOCK_M, BLOCK_N)
    rows = row_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = column_tile * BLOCK_N + tl.arange(0, BLOCK_N)
    # fmt: off
    accumulator = product_of_rows(
        x_ptr, weight_ptr, rows, columns, num_rows, num_columns, width,
        PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
    )
    # fmt: on
    tanh = _half_tanh(accumulator, half_slope, half_shift, APPROXIMATE)
    exponential = _exponential(tanh, half_scale)
    exponential = tl.where(columns[None, :] < vocabulary, exponential, 0.0)
    if MODE == "gradient":
        inverse_sums = 1.0 / tl.load(sums_ptr + rows, mask=rows < num_rows, other=1.0)
        targets = tl.load(targets_ptr + rows, mask=rows < num_rows, other=-1)
        weights = tl.load(weights_ptr + rows, mask=rows < num_rows, other=0.0)
        factors = (weights * half_scale * half_slope)[:, None]
        softmax = exponential * inverse_sums[:, None]
        difference = tl.where(columns[None, :] == targets[:, None], softmax - 1.0, softmax)
        out = difference * (factors - factors * tanh * tanh)
    else:
        sums_ptrs = sums_ptr + column_tile * num_rows + rows
        tl.store(sums_ptrs, tl.sum(exponential, axis=1), mask=rows < num_rows)
        out = accumulator
    if MODE != "sums":
        out_ptrs = out_ptr + rows[:, None].to(tl.int64) * num_columns + columns[None, :]
        inside = (rows[:, None] < num_rows) & (columns[None, :] < num_columns)
        tl.store(out_ptrs, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _gradient_kernel(
    z_ptr,  # [C, V], replaced by dz
    sums_ptr,  # float32 [C]: sum of exp(logit) over the vocabulary
    targets_ptr,  # [C]
    weights_ptr,  # float32 [C]
    num_columns,
    vocabulary,
    half_scale,
    half_slope,
    half_shift,
    APPROXIMATE: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """One row: dz = weight (softmax - [v = y]) (scale / divisor) sigmoid (1 - sigmoid)."""
    row = tl.program_id(0)
    z_row_ptr = z_ptr + row.to(tl.int64) * num_columns
    target = tl.load(targets_ptr + row)
    inverse_sum = 1.0 / tl.load(sums_ptr + row)
    # scale / divisor * sigmoid (1 - sigmoid) = (half_scale * half_slope) (1 - tanh^2)
    factor = tl.load(weights_ptr + row) * half_scale * half_slope
    for start in range(0, num_columns, BLOCK_COLUMNS):
        columns = start + tl.arange(0, BLOCK_COLUMNS)
        z = tl.load(z_row_ptr + columns, mask=columns < num_columns, other=0.0).to(tl.float32)
        tanh = _half_tanh(z, half_slope, half_shift, APPROXIMATE)
        exponential = _exponential(tanh, half_scale)
        softmax = tl.where(columns < vocabulary, exponential * inverse_sum, 0.0)
        difference = tl.where(columns == target, softmax - 1.0, softmax)
        gradient = difference * (factor - factor * tanh * tanh)
        tl.store(
            z_row_ptr + columns,
            gradient.to(z_ptr.dtype.element_ty),
            mask=columns < num_columns,
        )


@triton.jit
def _token_losses_kernel(
    x_ptr,  # [T, D]
    weight_ptr,  # [V, D]
    targets_ptr,  # [T]
    sums_ptr,  # float32 [T]
    losses_ptr,  # float32 [T], written
    num_rows,
    width,
    half_scale,
    half_slope,
    half_shift,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """log of the sum of exponentials minus the target's logit, BLOCK_ROWS tokens a program."""
    rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside = rows < num_rows
    targets = tl.load(targets_ptr + rows, mask=inside, other=0).to(tl.int64)
    z = tl.zeros((BLOCK_ROWS,), dtype=tl.float32)
    for start in range(0, width, BLOCK_WIDTH):
        inner = start + tl.arange(0, BLOCK_WIDTH)
        mask = inside[:, None] & (inner[None, :] < width)
        x_offsets = rows[:, None].to(tl.int64) * width + inner[None, :]
        x = tl.load(x_ptr + x_offsets, mask=mask, other=0.0).to(tl.float32)
        weight_offsets = targets[:, None] * width + inner[None, :]
        weight = tl.load(weight_ptr + weight_offsets, mask=mask, other=0.0).to(tl.float32)
        z += tl.sum(x * weight, axis=1)
    logits = half_scale * (1.0 + _half_tanh(z, half_slope, half_shift, False))
    sums = tl.load(sums_ptr + rows, mask=inside, other=1.0)
    tl.store(losses_ptr + rows, tl.log(sums) - logits, mask=inside)


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
    z_CV = x_TD.new_empty((chunk_tokens, num_columns) if with_gradients else 0)
    for start in range(0, num_tokens, chunk_tokens):
        chunk = slice(start, start + chunk_tokens)
        x = x_TD[chunk]
        z = z_CV[: len(x)]
        logits_and_sums(x, weight, z, sums_T[chunk], vocabulary, softcap, approximate)
        if not with_gradients:
            continue
        _gradient_kernel[(len(x),)](
            *(z, sums_T[chunk], targets_T[chunk], weights_T[chunk], num_columns, vocabulary),
            *softcap,
            APPROXIMATE=approximate,
            BLOCK_COLUMNS=4096,
            num_warps=8,
        )
        torch.mm(z, weight, out=grad_x_TD[chunk])
        add_product(grad_weight_VD, z.T, x)
    losses_T = torch.empty_like(sums_T)
    block_rows = 16
    _token_losses_kernel[(triton.cdiv(num_tokens, block_rows),)](
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
    launch(x_CD, weight_VD, z_CV, partial_sums_NC, vocabulary, softcap, mode, approximate, tile)
    torch.sum(partial_sums_NC, 0, out=sums_C)


def launch(
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
    """Start `_logits_kernel` in one of its modes."""
    num_rows, width = x_CD.shape
    row_tiles = triton.cdiv(num_rows, tile["BLOCK_M"])
    _logits_kernel[(row_tiles * triton.cdiv(len(weight_VD), tile["BLOCK_N"]),)](
        *(x_CD, weight_VD, out_CV, sums, targets_C, weights_C),
        *(num_rows, len(weight_VD), vocabulary, width),
        *softcap,
        MODE=mode,
        APPROXIMATE=approximate,
        PRECISION=dot_precision(x_CD.dtype),
        **tile,
    )
