# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""Triton kernels of the softcapped head and loss; `ramengpt.kernels.head.cuda` launches them.

With t = tanh((z + shift) / (2 divisor)), sigmoid is (1 + t) / 2, its derivative (1 - t^2) / 4,
so with half_scale = scale / 2, half_slope = 1 / (2 divisor) and half_shift = shift / (2 divisor):

    logit - half_scale = half_scale t        d logit / dz = half_scale half_slope (1 - t^2)
    e = exp(half_scale t)                    u = e (1 - t^2)

Subtracting half_scale does not change the softmax and centres the exponentials around 1. No logit
is needed a second time: up to one factor per row, u is the gradient except at the row's targets.

Shapes: T packed tokens, K targets of a token, C tokens of a chunk, D width, V rows of the head, N
column tiles.
"""

import triton
import triton.language as tl

from ramengpt.kernels.tiles import grouped_tile, product_of_rows


@triton.jit
def half_tanh(z, half_slope, half_shift, APPROXIMATE: tl.constexpr):
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
def exponential_of(tanh, half_scale):
    """exp(half_scale tanh): one product and one ex2."""
    return tl.exp2(half_scale * 1.4426950408889634 * tanh)


@triton.jit
def exponentials_kernel(
    x_ptr,  # [C, D]
    weight_ptr,  # [V, D]
    u_ptr,  # [C, V], written if STORE; 0 in the padding
    sums_ptr,  # float32 [N, C], written: the sum of e over the tile's columns
    num_rows,
    num_columns,
    vocabulary,
    width,
    half_scale,
    half_slope,
    half_shift,
    STORE: tl.constexpr,
    APPROXIMATE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One tile of x W^T: stores its sums of e, and u."""
    number = tl.program_id(0)
    row_tile, column_tile = grouped_tile(number, num_rows, num_columns, BLOCK_M, BLOCK_N)
    rows = row_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = column_tile * BLOCK_N + tl.arange(0, BLOCK_N)
    # fmt: off
    z = product_of_rows(
        x_ptr, weight_ptr, rows, columns, num_rows, num_columns, width,
        PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
    )
    # fmt: on
    tanh = half_tanh(z, half_slope, half_shift, APPROXIMATE)
    exponential = tl.where(columns[None, :] < vocabulary, exponential_of(tanh, half_scale), 0.0)
    sums_ptrs = sums_ptr + column_tile * num_rows + rows
    tl.store(sums_ptrs, tl.sum(exponential, axis=1), mask=rows < num_rows)
    if STORE:
        u = exponential - exponential * tanh * tanh
        u_ptrs = u_ptr + rows[:, None].to(tl.int64) * num_columns + columns[None, :]
        inside = (rows[:, None] < num_rows) & (columns[None, :] < num_columns)
        tl.store(u_ptrs, u.to(u_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _rows_product(
    x_ptr,
    weight_ptr,
    rows,
    targets,
    inside,
    width,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """z [BLOCK_ROWS] of some tokens, each at its own column, in float32."""
    z = tl.zeros((BLOCK_ROWS,), dtype=tl.float32)
    for start in range(0, width, BLOCK_WIDTH):
        inner = start + tl.arange(0, BLOCK_WIDTH)
        mask = inside[:, None] & (inner[None, :] < width)
        x_ptrs = x_ptr + rows[:, None].to(tl.int64) * width + inner[None, :]
        x = tl.load(x_ptrs, mask=mask, other=0.0).to(tl.float32)
        weight_ptrs = weight_ptr + targets[:, None] * width + inner[None, :]
        weight = tl.load(weight_ptrs, mask=mask, other=0.0).to(tl.float32)
        z += tl.sum(x * weight, axis=1)
    return z


@triton.jit
def targets_kernel(
    x_ptr,  # [C, D]
    weight_ptr,  # [V, D]
    targets_ptr,  # [C, K]
    totals_ptr,  # float32 [C]
    shares_ptr,  # float32 [C, K]
    sums_ptr,  # float32 [N, C], from `exponentials_kernel`
    losses_ptr,  # float32 [C, K], written
    u_ptr,  # [C, V]: the targets' elements are replaced
    factors_ptr,  # float32 [C], written: what a row of u must be multiplied by
    scaled_x_ptr,  # [C, D], written: x times the factor
    num_rows,
    num_columns,
    num_tiles,
    width,
    half_scale,
    half_slope,
    half_shift,
    WITH_GRADIENTS: tl.constexpr,
    EXCLUDE_TARGETS: tl.constexpr,
    NUM_TARGETS: tl.constexpr,
    APPROXIMATE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_TILES: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Loss of BLOCK_ROWS tokens, and the correction that makes u their gradient.

    A target's z is a dot product of two rows, exact in float32. Its gradient takes the same
    approximate tanh as the sum, so that a certain token's gradient vanishes. Equal targets of a
    token all write the element with the sum of their shares. With EXCLUDE_TARGETS the sums lack the
    first target's e, u is float32 [C, K]: what each target adds to its element; all is exact.
    """
    rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside = rows < num_rows
    sums = tl.zeros((BLOCK_ROWS,), dtype=tl.float32)
    for start in range(0, num_tiles, BLOCK_TILES):
        tiles = start + tl.arange(0, BLOCK_TILES)
        mask = (tiles[:, None] < num_tiles) & inside[None, :]
        sums_ptrs = sums_ptr + tiles[:, None] * num_rows + rows[None, :]
        sums += tl.sum(tl.load(sums_ptrs, mask=mask, other=0.0), axis=0)
    sums = tl.where(inside, sums, 1.0)
    for number in tl.static_range(NUM_TARGETS):
        places = rows * NUM_TARGETS + number
        targets = tl.load(targets_ptr + places, mask=inside, other=0).to(tl.int64)
        z = _rows_product(x_ptr, weight_ptr, rows, targets, inside, width, BLOCK_ROWS, BLOCK_WIDTH)
        exact = half_tanh(z, half_slope, half_shift, False)
        if EXCLUDE_TARGETS:  # noqa: SIM102 (Triton resolves each constant condition by itself)
            if number == 0:
                sums += exponential_of(exact, half_scale)
        tl.store(losses_ptr + places, tl.log(sums) - half_scale * exact, mask=inside)
        if WITH_GRADIENTS:
            tanh = half_tanh(z, half_slope, half_shift, APPROXIMATE)
            share = tl.load(shares_ptr + places, mask=inside, other=0.0)
            element = exponential_of(tanh, half_scale)
            if EXCLUDE_TARGETS:
                u_ptrs = u_ptr + places
                if number > 0:
                    element = tl.zeros_like(element)
            else:
                u_ptrs = u_ptr + rows.to(tl.int64) * num_columns + targets
                for other in tl.static_range(NUM_TARGETS):
                    if other != number:
                        other_places = rows * NUM_TARGETS + other
                        twins = tl.load(targets_ptr + other_places, mask=inside, other=0)
                        other_share = tl.load(shares_ptr + other_places, mask=inside, other=0.0)
                        share += tl.where(twins == targets, other_share, 0.0)
            u = (element - share * sums) * (1.0 - tanh * tanh)
            tl.store(u_ptrs, u.to(u_ptr.dtype.element_ty), mask=inside)
    if WITH_GRADIENTS:
        totals = tl.load(totals_ptr + rows, mask=inside, other=0.0)
        factors = totals * half_scale * half_slope / sums
        tl.store(factors_ptr + rows, factors, mask=inside)
        for start in range(0, width, BLOCK_WIDTH):
            inner = start + tl.arange(0, BLOCK_WIDTH)
            mask = inside[:, None] & (inner[None, :] < width)
            offsets = rows[:, None].to(tl.int64) * width + inner[None, :]
            x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
            scaled_x = (x * factors[:, None]).to(scaled_x_ptr.dtype.element_ty)
            tl.store(scaled_x_ptr + offsets, scaled_x, mask=mask)
