# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""The products of the squared-ReLU MLP on Hopper and data centre Blackwell, in 16 bits.

Like the head's logits GEMM: one program per multiprocessor walks over many tiles, and TMA moves
whole blocks. On an H200 that is as fast as cuBLAS's product without the epilogue.

Shapes: T packed tokens, D width, F hidden units.
"""

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ramengpt.kernels.tiles import (
    dot_precision,
    grouped_tile,
    product_of_blocks,
    programs_at_once,
)

TILE = {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3}


@triton.jit
def persistent_product_kernel(
    a_blocks,  # descriptor of [T, D]
    b_blocks,  # descriptor of [F, D]
    h_blocks,  # descriptor of [T, F], read if BACKWARD
    out_blocks,  # descriptor of [T, F], written
    num_rows,
    num_columns,
    width,
    BACKWARD: tl.constexpr,
    PRECISION: tl.constexpr,
    PROGRAMS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Tiles of relu(A B^T)^2, or of 2 sqrt(h) A B^T if BACKWARD."""
    # One pipeline over tiles and width; with h's block beside it shared memory would not hold it.
    one_pipeline: tl.constexpr = not BACKWARD
    tiles = tl.cdiv(num_rows, BLOCK_M) * tl.cdiv(num_columns, BLOCK_N)
    for tile in tl.range(tl.program_id(0), tiles, PROGRAMS, flatten=one_pipeline):
        row_tile, column_tile = grouped_tile(tile, num_rows, num_columns, BLOCK_M, BLOCK_N)
        row, column = row_tile * BLOCK_M, column_tile * BLOCK_N
        # fmt: off
        accumulator = product_of_blocks(
            a_blocks, b_blocks, row, column, width, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
        )
        # fmt: on
        if BACKWARD:
            h = h_blocks.load([row, column]).to(tl.float32)
            out = 2.0 * tl.sqrt(h) * accumulator
        else:
            positive = tl.maximum(accumulator, 0.0)
            out = positive * positive
        out_blocks.store([row, column], out.to(out_blocks.dtype))


def launch_persistent_product(
    a_TD: Tensor, b_FD: Tensor, h_TF: Tensor | None, tile: dict[str, int] | None = None
) -> Tensor:
    """relu(A B^T)^2, or 2 sqrt(h) A B^T if h is given (CPU tensors: Triton's interpreter)."""
    tile = tile or TILE
    num_rows, width = a_TD.shape
    rows, columns, inner = (tile[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    out_TF = a_TD.new_empty(num_rows, len(b_FD))
    programs = programs_at_once(a_TD, tile["num_warps"])
    out_blocks = TensorDescriptor.from_tensor(out_TF, [rows, columns])
    h_blocks = out_blocks if h_TF is None else TensorDescriptor.from_tensor(h_TF, [rows, columns])
    persistent_product_kernel[(programs,)](
        TensorDescriptor.from_tensor(a_TD, [rows, inner]),
        TensorDescriptor.from_tensor(b_FD, [columns, inner]),
        *(h_blocks, out_blocks, num_rows, len(b_FD), width),
        BACKWARD=h_TF is not None,
        PRECISION=dot_precision(a_TD.dtype),
        PROGRAMS=programs,
        **tile,
    )
    return out_TF
