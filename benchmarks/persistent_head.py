# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""A variant of the head's first product to hold against the one in use: persistent, by TMA.

One program a multiprocessor walks over many tiles, and Hopper's copy engine moves whole blocks, so
that a tile's loads and stores can go on while its neighbours are multiplied.

Shapes: C tokens of a chunk, D width, V rows of the head, N column tiles.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ramengpt.kernels.softcapped_cross_entropy_triton import _exponential, _half_tanh


@triton.jit
def persistent_exponentials_kernel(
    x_blocks,  # descriptor of x [C, D]
    weight_blocks,  # descriptor of W [V, D]
    u_blocks,  # descriptor of u [C, V]
    sums_ptr,  # float32 [N, C], written
    num_rows,
    num_columns,
    vocabulary,
    width,
    half_scale,
    half_slope,
    half_shift,
    APPROXIMATE: tl.constexpr,
    PROGRAMS: tl.constexpr,
    FLATTEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Tiles of e's sums and of u, as `exponentials_kernel` makes them."""
    group: tl.constexpr = 16
    row_tiles = tl.cdiv(num_rows, BLOCK_M)
    tiles = row_tiles * tl.cdiv(num_columns, BLOCK_N)
    tiles_of_group = group * tl.cdiv(num_columns, BLOCK_N)
    for tile in tl.range(tl.program_id(0), tiles, PROGRAMS, flatten=FLATTEN):
        first_row_tile = (tile // tiles_of_group) * group
        rows_of_group = min(row_tiles - first_row_tile, group)
        first_row = (first_row_tile + (tile % tiles_of_group) % rows_of_group) * BLOCK_M
        column_tile = (tile % tiles_of_group) // rows_of_group
        z = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for inner in range(0, width, BLOCK_K):
            x = x_blocks.load([first_row, inner])
            weight = weight_blocks.load([column_tile * BLOCK_N, inner])
            z = tl.dot(x, weight.T, z)
        rows = first_row + tl.arange(0, BLOCK_M)
        columns = column_tile * BLOCK_N + tl.arange(0, BLOCK_N)
        tanh = _half_tanh(z, half_slope, half_shift, APPROXIMATE)
        exponential = tl.where(columns[None, :] < vocabulary, _exponential(tanh, half_scale), 0.0)
        sums = tl.sum(exponential, axis=1)
        tl.store(sums_ptr + column_tile * num_rows + rows, sums, mask=rows < num_rows)
        u = exponential - exponential * tanh * tanh
        u_blocks.store([first_row, column_tile * BLOCK_N], u.to(u_blocks.dtype))


def persistent_exponentials(
    x_CD: Tensor,
    weight_VD: Tensor,
    u_CV: Tensor,
    vocabulary: int,
    softcap: tuple[float, float, float],
    approximate: bool,
    tile: dict[str, int],
    *,
    programs: int,
    flatten: bool,
) -> Tensor:
    """Fill `u_CV` and return the sums, as `softcapped_cross_entropy_cuda.exponentials` does.

    Args:
        x_CD: [C, D], contiguous, rows of a multiple of 16 bytes.
        weight_VD: [V, D], contiguous.
        u_CV: [C, V], written.
        vocabulary: columns that count.
        softcap: as there.
        approximate: as there.
        tile: launch parameters.
        programs: how many run at once.
        flatten: whether the loops over tiles and over D are pipelined as one.

    Returns:
        float32 [N, C].
    """
    num_rows, width = x_CD.shape
    rows, columns, inner = (tile[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    column_tiles = triton.cdiv(len(weight_VD), columns)
    sums_NC = x_CD.new_empty(column_tiles, num_rows, dtype=torch.float32)
    persistent_exponentials_kernel[(programs,)](
        TensorDescriptor.from_tensor(x_CD, [rows, inner]),
        TensorDescriptor.from_tensor(weight_VD, [columns, inner]),
        TensorDescriptor.from_tensor(u_CV, [rows, columns]),
        *(sums_NC, num_rows, len(weight_VD), vocabulary, width),
        *softcap,
        APPROXIMATE=approximate,
        PROGRAMS=programs,
        FLATTEN=flatten,
        **tile,
    )
    return sums_NC
