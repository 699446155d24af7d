# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""What the kernels with a GEMM share: which tile a program computes, and the product.

Shapes: A [M, K] and B [N, K], both row-major; a tile is BLOCK_M rows of A against BLOCK_N of B.
"""

import torch
import triton
import triton.language as tl

from ramengpt.kernels.support import runs_kernels

TMA_MAJORS = (9, 10)
"""Compute capabilities of GPUs with TMA and enough shared memory for large tiles.

Hopper and data centre Blackwell; consumer Blackwell (12) has TMA, but too little shared memory.
"""
_ALIGNMENT_BYTES = 16  # of a row that TMA can move


@triton.jit
def grouped_tile(tile, num_rows, num_columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Row and column of a tile by its number, often that of the program.

    Consecutive tiles stay within a group of 16 row tiles and move along the columns, so that their
    operands stay in the L2 cache.
    """
    group: tl.constexpr = 16
    num_row_tiles = tl.cdiv(num_rows, BLOCK_M)
    tiles_of_group = group * tl.cdiv(num_columns, BLOCK_N)
    first_row_tile = (tile // tiles_of_group) * group
    rows_of_group = min(num_row_tiles - first_row_tile, group)
    within = tile % tiles_of_group
    return first_row_tile + within % rows_of_group, within // rows_of_group


@triton.jit
def product_of_rows(
    a_ptr,  # [M, K]
    b_ptr,  # [N, K]
    rows,  # [BLOCK_M]
    columns,  # [BLOCK_N]
    num_rows,
    num_columns,
    width,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """A tile of A B^T in float32. Rows past the end hold copies of row 0: mask what is stored."""
    a_ptrs = a_ptr + tl.where(rows < num_rows, rows, 0)[:, None] * width
    b_ptrs = b_ptr + tl.where(columns < num_columns, columns, 0)[None, :] * width
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, width, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        a = tl.load(a_ptrs + inner[None, :], mask=inner[None, :] < width, other=0.0)
        b = tl.load(b_ptrs + inner[:, None], mask=inner[:, None] < width, other=0.0)
        accumulator = tl.dot(a, b, accumulator, input_precision=PRECISION)
    return accumulator


@triton.jit
def product_of_blocks(
    a_blocks,  # descriptor of A [M, K]
    b_blocks,  # descriptor of B [N, K]
    first_row,
    first_column,
    width,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """A tile of A B^T in float32, loaded by TMA. Rows past the end are zero."""
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for inner in range(0, width, BLOCK_K):
        a = a_blocks.load([first_row, inner])
        b = b_blocks.load([first_column, inner])
        accumulator = tl.dot(a, b.T, accumulator, input_precision=PRECISION)
    return accumulator


def product_tile(dtype: torch.dtype) -> dict[str, int]:
    """Tile and launch parameters for a product of operands in `dtype`.

    Two programs fit a multiprocessor, so that one multiplies while the other is in its epilogue.
    Four warps beat eight on an H200 wherever the epilogue computes: by a quarter in the head.
    """
    if dtype == torch.float32:
        return {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2}
    return {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3}


def supports_tma(a_MK: torch.Tensor, b_NK: torch.Tensor) -> bool:
    """Whether the GPU has TMA and the shared memory for A, B and A B^T, and rows are aligned."""
    row_lengths = (a_MK.shape[1], len(b_NK))
    aligned = all(length * a_MK.itemsize % _ALIGNMENT_BYTES == 0 for length in row_lengths)
    if not (aligned and runs_kernels(a_MK)):
        return False
    return torch.cuda.get_device_capability(a_MK.device)[0] in TMA_MAJORS


def programs_at_once(x: torch.Tensor, num_warps: int) -> int:
    """Programs that run at the same time, at eight warps per multiprocessor; few on the CPU."""
    if not x.is_cuda:
        return 3
    return torch.cuda.get_device_properties(x.device).multi_processor_count * 8 // num_warps


def dot_precision(dtype: torch.dtype) -> str:
    """Triton's `input_precision`: float32 operands keep all their bits, narrower ones ignore it."""
    return "ieee" if dtype == torch.float32 else "tf32"


def add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """total += left @ right, summed in the dtype of `total`: that of the operands, or float32."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)


def product(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """left @ right in the dtype of the operands, or in float32 (elsewhere converted to it)."""
    if runs_kernels(left) and dtype != left.dtype:
        return torch.mm(left, right, out_dtype=dtype)
    return (left @ right).to(dtype)
