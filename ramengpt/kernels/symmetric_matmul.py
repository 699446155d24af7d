# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""Products known to be symmetric, X X^T and b A + c A A, at half the work.

Only the tiles on and below the diagonal are multiplied; each is written twice, once transposed.
Polar Express spends most of its time in these two.

Shapes: leading batch dimensions (...), then X [M, K] and A [M, M]; B is their product.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramengpt.kernels.support import runs_kernels
from ramengpt.kernels.tiles import dot_precision

SMALLEST_WORTHWHILE_ROWS = 1024
"""From this size on, half the work outweighs a launch from Python.

On an H200 in bfloat16, X X^T and b A + c A A, milliseconds here and by cuBLAS: 48 matrices of 1024
rows 0.119, 0.147 and 0.167, 0.224; 24 of 768 rows 0.108, 0.115 and 0.126, 0.063; 24 of 256 rows
0.127, 0.051 and 0.136, 0.052, nearly all of it launch overhead.
"""


def symmetric_product(x: Tensor) -> Tensor:
    """X X^T.

    Args:
        x: [..., M, K], any strides.

    Returns:
        [..., M, M] in the dtype of `x`, accumulated in float32.
    """
    return _product_operator(x)


def symmetric_quadratic(a: Tensor, linear: float, quadratic: float) -> Tensor:
    """linear A + quadratic A A for a symmetric A.

    Args:
        a: [..., M, M], symmetric: the first term does not read what lies above the diagonal.
        linear: factor of A.
        quadratic: factor of A A.

    Returns:
        [..., M, M] in the dtype of `a`, accumulated in float32.

    Raises:
        ValueError: the matrices are not square.
    """
    if a.shape[-1] != a.shape[-2]:
        raise ValueError(f"symmetric_quadratic: expected square matrices, found {tuple(a.shape)}")
    return _quadratic_operator(a, linear, quadratic)


def symmetric_product_reference(x: Tensor) -> Tensor:
    """X X^T in plain PyTorch."""
    return x @ x.mT


def symmetric_quadratic_reference(a: Tensor, linear: float, quadratic: float) -> Tensor:
    """b A + c A A in plain PyTorch."""
    return linear * a + quadratic * (a @ a)


@triton.jit
def _symmetric_kernel(
    x_ptr,  # [B, M, K]
    linear_ptr,  # [B, M, M], read if HAS_LINEAR
    out_ptr,  # [B, M, M], contiguous
    num_rows,
    width,
    x_batch_stride,
    x_row_stride,
    x_column_stride,
    linear_batch_stride,
    linear_row_stride,
    linear_column_stride,
    linear,
    quadratic,
    HAS_LINEAR: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """A tile of quadratic X X^T + linear A and its mirror image; nothing above the diagonal."""
    row_tile = tl.program_id(0)
    column_tile = tl.program_id(1)
    if column_tile > row_tile:
        return
    batch = tl.program_id(2).to(tl.int64)
    rows = row_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = column_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    x_ptr += batch * x_batch_stride
    a_ptrs = x_ptr + tl.where(rows < num_rows, rows, 0)[:, None] * x_row_stride
    b_ptrs = x_ptr + tl.where(columns < num_rows, columns, 0)[None, :] * x_row_stride
    accumulator = tl.zeros((BLOCK_M, BLOCK_M), dtype=tl.float32)
    for start in range(0, width, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        mask = inner < width
        a = tl.load(a_ptrs + inner[None, :] * x_column_stride, mask=mask[None, :], other=0.0)
        b = tl.load(b_ptrs + inner[:, None] * x_column_stride, mask=mask[:, None], other=0.0)
        accumulator = tl.dot(a, b, accumulator, input_precision=PRECISION)
    accumulator *= quadratic
    inside = (rows[:, None] < num_rows) & (columns[None, :] < num_rows)
    if HAS_LINEAR:
        linear_ptrs = linear_ptr + batch * linear_batch_stride + rows[:, None] * linear_row_stride
        term = tl.load(linear_ptrs + columns[None, :] * linear_column_stride, mask=inside, other=0)
        accumulator += linear * term.to(tl.float32)
    out = accumulator.to(out_ptr.dtype.element_ty)
    out_ptr += batch * num_rows * num_rows
    tl.store(out_ptr + rows[:, None] * num_rows + columns[None, :], out, mask=inside)
    if column_tile < row_tile:
        mirrored = (columns[:, None] < num_rows) & (rows[None, :] < num_rows)
        mirror_ptrs = out_ptr + columns[:, None] * num_rows + rows[None, :]
        tl.store(mirror_ptrs, tl.trans(out), mask=mirrored)


def launch_symmetric(x: Tensor, quadratic: float, a: Tensor | None, linear: float) -> Tensor:
    """quadratic X X^T + linear A by the kernel (on CPU tensors: by Triton's interpreter)."""
    *batch, num_rows, width = x.shape
    x_BMK = x.reshape(-1, num_rows, width)
    a_BMM = x_BMK if a is None else a.reshape(-1, num_rows, num_rows)
    out_BMM = x.new_empty(len(x_BMK), num_rows, num_rows)
    small = num_rows <= 512 or x.dtype == torch.float32
    tile = {"BLOCK_M": 64 if small else 128, "BLOCK_K": 32 if x.dtype == torch.float32 else 64}
    tiles = triton.cdiv(num_rows, tile["BLOCK_M"])
    _symmetric_kernel[(tiles, tiles, len(x_BMK))](
        *(x_BMK, a_BMM, out_BMM, num_rows, width),
        *x_BMK.stride(),
        *a_BMM.stride(),
        *(linear, quadratic),
        HAS_LINEAR=a is not None,
        PRECISION=dot_precision(x.dtype),
        **tile,
        num_warps=4 if small else 8,
        num_stages=3,
    )
    return out_BMM.reshape(*batch, num_rows, num_rows)


@torch.library.custom_op("ramengpt::symmetric_product", mutates_args=())
def _product_operator(x: Tensor) -> Tensor:
    if runs_kernels(x):
        return launch_symmetric(x, 1.0, None, 0.0)
    return symmetric_product_reference(x)


@_product_operator.register_fake
def _product_shape(x: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], x.shape[-2])


@torch.library.custom_op("ramengpt::symmetric_quadratic", mutates_args=())
def _quadratic_operator(a: Tensor, linear: float, quadratic: float) -> Tensor:
    if runs_kernels(a):
        return launch_symmetric(a, quadratic, a, linear)
    return symmetric_quadratic_reference(a, linear, quadratic)


@_quadratic_operator.register_fake
def _quadratic_shape(a: Tensor, linear: float, quadratic: float) -> Tensor:
    return a.new_empty(a.shape)


def _keep_input(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.factors = inputs[1:]  # type: ignore[attr-defined]


def _product_gradient(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
    return (grad + grad.mT) @ x


def _quadratic_gradient(
    ctx: torch.autograd.function.FunctionCtx, grad: Tensor
) -> tuple[Tensor, None, None]:
    (a,) = ctx.saved_tensors  # type: ignore[attr-defined]
    linear, quadratic = ctx.factors  # type: ignore[attr-defined]
    return linear * grad + quadratic * (grad @ a.mT + a.mT @ grad), None, None


_product_operator.register_autograd(_product_gradient, setup_context=_keep_input)
_quadratic_operator.register_autograd(_quadratic_gradient, setup_context=_keep_input)
