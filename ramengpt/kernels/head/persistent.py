# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""The logits GEMM on Hopper and data centre Blackwell, in bfloat16 or float8.

A persistent kernel: one program per multiprocessor walks over many tiles, and TMA moves whole
blocks, so that a tile's loads and stores overlap with the products of its neighbours. In bfloat16
it computes what `exponentials_kernel` does. In float8, z = product_scale x W^T, and the target's
element is excluded (set to 0): it dwarfs the others and needs more precision than float8 offers; it
is added back in bfloat16.

Shapes: C tokens of a chunk, D width, V rows of the head, N column tiles.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ramengpt.kernels.head.triton_kernels import exponential_of, half_tanh
from ramengpt.kernels.tiles import (
    dot_precision,
    grouped_tile,
    product_of_blocks,
    programs_at_once,
)


def persistent_tile(dtype: torch.dtype) -> dict[str, int]:
    """Tile and launch parameters: the fastest of those tried on an H200."""
    if dtype == torch.float8_e4m3fn:
        return {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 128, "num_warps": 4, "num_stages": 3}
    return {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3}


@triton.jit
def persistent_exponentials_kernel(
    x_blocks,  # descriptor of x [C, D]
    weight_blocks,  # descriptor of W [V, D]
    u_blocks,  # descriptor of u [C, V], written
    transposed_u_blocks,  # descriptor of [V, C], written if FLOAT8
    sums_ptr,  # float32 [N, C], written
    targets_ptr,  # [C], read if FLOAT8
    product_scale_ptr,  # float32 [1], read if FLOAT8
    num_rows,
    num_columns,
    vocabulary,
    width,
    half_scale,
    half_slope,
    half_shift,
    u_factor,
    FLOAT8: tl.constexpr,
    APPROXIMATE: tl.constexpr,
    PRECISION: tl.constexpr,
    PROGRAMS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Tiles of e's sums and of u_factor u."""
    tiles = tl.cdiv(num_rows, BLOCK_M) * tl.cdiv(num_columns, BLOCK_N)
    if FLOAT8:
        half_slope *= tl.load(product_scale_ptr)
    # One pipeline over tiles and width: a tile's first loads do not wait for the tile before.
    for tile in tl.range(tl.program_id(0), tiles, PROGRAMS, flatten=True):
        row_tile, column_tile = grouped_tile(tile, num_rows, num_columns, BLOCK_M, BLOCK_N)
        first_row, first_column = row_tile * BLOCK_M, column_tile * BLOCK_N
        # fmt: off
        z = product_of_blocks(
            x_blocks, weight_blocks, first_row, first_column, width,
            PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
        )
        # fmt: on
        rows = first_row + tl.arange(0, BLOCK_M)
        columns = first_column + tl.arange(0, BLOCK_N)
        tanh = half_tanh(z, half_slope, half_shift, APPROXIMATE)
        counts = columns[None, :] < vocabulary
        if FLOAT8:
            targets = tl.load(targets_ptr + rows, mask=rows < num_rows, other=0)
            counts = counts & (columns[None, :] != targets[:, None])
        exponential = tl.where(counts, exponential_of(tanh, half_scale), 0.0)
        sums = tl.sum(exponential, axis=1)
        tl.store(sums_ptr + column_tile * num_rows + rows, sums, mask=rows < num_rows)
        u = exponential - exponential * tanh * tanh
        if FLOAT8:
            u_float8 = (u * u_factor).to(u_blocks.dtype)
            u_blocks.store([first_row, first_column], u_float8)
            transposed_u_blocks.store([first_column, first_row], u_float8.T)
        else:
            u_blocks.store([first_row, first_column], u.to(u_blocks.dtype))


def persistent_exponentials(
    x_CD: Tensor,
    weight_VD: Tensor,
    u_CV: Tensor,
    vocabulary: int,
    softcap: tuple[float, float, float],
    approximate: bool,
    tile: dict[str, int] | None = None,
    float8: tuple[Tensor, Tensor, Tensor, float] | None = None,
) -> Tensor:
    """Fill `u_CV` and return the sums, as `ramengpt.kernels.head.cuda.exponentials` does.

    Args:
        x_CD: [C, D], contiguous, rows of a multiple of 16 bytes.
        weight_VD: [V, D], contiguous.
        u_CV: [C, V], written.
        vocabulary: columns that count.
        softcap: as there.
        approximate: as there.
        tile: launch parameters other than `persistent_tile`'s, for measurements.
        float8: for float8 operands: u transposed [V, C], written; the targets [C]; the factor of
            their product (float32 [1]); and what u is multiplied by to use float8's range.

    Returns:
        float32 [N, C].
    """
    tile = tile or persistent_tile(x_CD.dtype)
    num_rows, width = x_CD.shape
    rows, columns, inner = (tile[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    column_tiles = triton.cdiv(len(weight_VD), columns)
    sums_NC = x_CD.new_empty(column_tiles, num_rows, dtype=torch.float32)
    u_blocks = TensorDescriptor.from_tensor(u_CV, [rows, columns])
    transposed_blocks, targets_C, product_scale, u_factor = u_blocks, sums_NC, sums_NC, 1.0
    if float8 is not None:
        transposed_u_VC, targets_C, product_scale, u_factor = float8
        transposed_blocks = TensorDescriptor.from_tensor(transposed_u_VC, [columns, rows])
    tiles = triton.cdiv(num_rows, rows) * column_tiles
    programs = min(programs_at_once(x_CD, tile["num_warps"]), tiles)
    persistent_exponentials_kernel[(programs,)](
        TensorDescriptor.from_tensor(x_CD, [rows, inner]),
        TensorDescriptor.from_tensor(weight_VD, [columns, inner]),
        *(u_blocks, transposed_blocks, sums_NC, targets_C, product_scale),
        *(num_rows, len(weight_VD), vocabulary, width, *softcap, u_factor),
        FLOAT8=float8 is not None,
        APPROXIMATE=approximate,
        PRECISION=dot_precision(x_CD.dtype),
        PROGRAMS=programs,
        **tile,
    )
    return sums_NC
