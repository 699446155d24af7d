# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""relu(x W_in^T)^2 W_out with the activation, and its derivative, in the products' epilogues.

Forward writes only h = relu(z)^2, never z: backward recovers relu(z) as sqrt(h). So the
intermediate crosses device memory three times instead of eight, and one tensor of T x F is kept.

    dh = dy W_out^T    dz = 2 relu(z) dh    dx = dz W_in    dW_in = dz^T x    dW_out = h^T dy

Shapes: T packed tokens, D width, F hidden units; both weights are stored [F, D].
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramengpt.kernels.relu_squared_mlp_persistent import launch_persistent_product
from ramengpt.kernels.support import runs_kernels
from ramengpt.kernels.tiles import (
    dot_precision,
    grouped_tile,
    product,
    product_of_rows,
    product_tile,
    supports_tma,
)


def linear_relu_squared_mlp(x_TD: Tensor, w_in_FD: Tensor, w_out_FD: Tensor) -> Tensor:
    """relu(x W_in^T)^2 W_out.

    The products run in the dtype of `x_TD`; the weights may be float32 masters, and each gradient
    comes in the dtype of its tensor, summed in float32.

    Args:
        x_TD: [T, D].
        w_in_FD: [F, D].
        w_out_FD: [F, D].

    Returns:
        [T, D] in the dtype of `x_TD`.

    Raises:
        ValueError: shapes that do not fit.

    Source: activation from Primer (2109.08668).
    """
    if x_TD.dim() != 2 or w_in_FD.shape != w_out_FD.shape or w_in_FD.shape[1] != x_TD.shape[1]:
        raise ValueError(
            f"mlp: x {tuple(x_TD.shape)}, w_in {tuple(w_in_FD.shape)} and w_out "
            f"{tuple(w_out_FD.shape)} must be [T, D], [F, D] and [F, D]"
        )
    return _forward_operator(x_TD, w_in_FD, w_out_FD)[0]


def linear_relu_squared_mlp_reference(x_TD: Tensor, w_in_FD: Tensor, w_out_FD: Tensor) -> Tensor:
    """The same in plain PyTorch."""
    h_TF = torch.relu(x_TD @ w_in_FD.to(x_TD.dtype).T).square()
    return h_TF @ w_out_FD.to(x_TD.dtype)


@triton.jit
def _product_kernel(
    a_ptr,  # [T, D]
    b_ptr,  # [F, D]
    h_ptr,  # [T, F], read if BACKWARD
    out_ptr,  # [T, F], written
    num_rows,
    num_columns,
    width,
    BACKWARD: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """A tile of relu(A B^T)^2, or of 2 sqrt(h) A B^T if BACKWARD."""
    number = tl.program_id(0)
    row_tile, column_tile = grouped_tile(number, num_rows, num_columns, BLOCK_M, BLOCK_N)
    rows = row_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = column_tile * BLOCK_N + tl.arange(0, BLOCK_N)
    # fmt: off
    accumulator = product_of_rows(
        a_ptr, b_ptr, rows, columns, num_rows, num_columns, width,
        PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
    )
    # fmt: on
    offsets = rows[:, None].to(tl.int64) * num_columns + columns[None, :]
    inside = (rows[:, None] < num_rows) & (columns[None, :] < num_columns)
    if BACKWARD:
        h = tl.load(h_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
        out = 2.0 * tl.sqrt(h) * accumulator
    else:
        positive = tl.maximum(accumulator, 0.0)
        out = positive * positive
    tl.store(out_ptr + offsets, out.to(out_ptr.dtype.element_ty), mask=inside)


def launch_product(
    a_TD: Tensor, b_FD: Tensor, h_TF: Tensor | None, tile: dict[str, int] | None = None
) -> Tensor:
    """relu(A B^T)^2, or 2 sqrt(h) A B^T if h is given, by a program for each tile.

    CPU tensors are for Triton's interpreter.
    """
    tile = tile or product_tile(a_TD.dtype)
    num_rows, width = a_TD.shape
    num_columns = len(b_FD)
    out_TF = a_TD.new_empty(num_rows, num_columns)
    programs = triton.cdiv(num_rows, tile["BLOCK_M"]) * triton.cdiv(num_columns, tile["BLOCK_N"])
    _product_kernel[(programs,)](
        *(a_TD, b_FD, out_TF if h_TF is None else h_TF, out_TF),
        *(num_rows, num_columns, width),
        BACKWARD=h_TF is not None,
        PRECISION=dot_precision(a_TD.dtype),
        **tile,
    )
    return out_TF


def _fastest_product(a_TD: Tensor, b_FD: Tensor, h_TF: Tensor | None) -> Tensor:
    """The same by the fastest kernel for the operands."""
    a_TD, b_FD = a_TD.contiguous(), b_FD.contiguous()
    if a_TD.dtype != torch.float32 and supports_tma(a_TD, b_FD):
        return launch_persistent_product(a_TD, b_FD, h_TF)
    return launch_product(a_TD, b_FD, h_TF)


@torch.library.custom_op("ramengpt::relu_squared_mlp", mutates_args=())
def _forward_operator(x_TD: Tensor, w_in_FD: Tensor, w_out_FD: Tensor) -> tuple[Tensor, Tensor]:
    """The output and h."""
    w_in, w_out = w_in_FD.to(x_TD.dtype), w_out_FD.to(x_TD.dtype)
    if runs_kernels(x_TD):
        h_TF = _fastest_product(x_TD, w_in, None)
    else:
        h_TF = (x_TD @ w_in.T).relu_().square_()
    return h_TF @ w_out, h_TF


@_forward_operator.register_fake
def _forward_shapes(x_TD: Tensor, w_in_FD: Tensor, w_out_FD: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x_TD), x_TD.new_empty(x_TD.shape[0], w_in_FD.shape[0])


@torch.library.custom_op("ramengpt::relu_squared_mlp_gradient", mutates_args=())
def gradient_operator(
    grad_TD: Tensor, x_TD: Tensor, w_in_FD: Tensor, w_out_FD: Tensor, h_TF: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, W_in and W_out."""
    w_in, w_out = w_in_FD.to(x_TD.dtype), w_out_FD.to(x_TD.dtype)
    grad_TD = grad_TD.contiguous()
    if runs_kernels(x_TD):
        dz_TF = _fastest_product(grad_TD, w_out, h_TF)
    else:
        dz_TF = (grad_TD @ w_out.T).mul_(h_TF.sqrt().mul_(2))
    return (
        dz_TF @ w_in,
        product(dz_TF.T, x_TD, w_in_FD.dtype),
        product(h_TF.T, grad_TD, w_out_FD.dtype),
    )


@gradient_operator.register_fake
def _backward_shapes(
    grad_TD: Tensor, x_TD: Tensor, w_in_FD: Tensor, w_out_FD: Tensor, h_TF: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x_TD), torch.empty_like(w_in_FD), torch.empty_like(w_out_FD)


def _keep_for_backward(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, Tensor]
) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, output[1])


def _gradients(
    ctx: torch.autograd.function.FunctionCtx, grad_TD: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    if grad_TD is None:
        return None, None, None
    return gradient_operator(grad_TD, *ctx.saved_tensors)  # type: ignore[attr-defined]


_forward_operator.register_autograd(_gradients, setup_context=_keep_for_backward)
