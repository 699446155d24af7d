# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""Triton kernels of the softcapped head and loss; softcapped_cross_entropy_cuda.py launches them.

With t = tanh((z + shift) / (2 divisor)), sigmoid is (1 + t) / 2, its derivative (1 - t^2) / 4,
so with half_scale = scale / 2, half_slope = 1 / (2 divisor) and half_shift = shift / (2 divisor):

    logit = half_scale (1 + t)        d logit / dz = half_scale half_slope (1 - t^2)

Shapes: T packed tokens, C tokens of a chunk, D width, V rows of the head, N column tiles.
"""

import triton
import triton.language as tl

from ramengpt.kernels.tiles import grouped_tile, product_of_rows


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
def logits_kernel(
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
def gradient_kernel(
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
def token_losses_kernel(
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
