# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""relu(x W_in^T)^2 W_out with both forward products in float8, for training on GPUs with TMA.

    x, W_in, W_out   e4m3, each with the scale of its own largest element
    h                e4m3 beside the 16-bit h that backward reads; the first product writes both, so
                     its scale must be known before: it follows from the largest h of the previous
                     forward pass, with headroom, and what is larger still is clamped

Backward is that of `ramengpt.kernels.relu_squared_mlp`, in 16 bits, from the 16-bit h.

Shapes: T packed tokens, D width, F hidden units.

Source: modded-nanogpt, whose headroom this is; float8 formats, 2209.05433.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ramengpt.kernels.head.float8 import to_float8
from ramengpt.kernels.relu_squared_mlp import gradient_operator
from ramengpt.kernels.tiles import (
    dot_precision,
    grouped_tile,
    product_of_blocks,
    programs_at_once,
)

HEADROOM = 1.8
"""By how much the largest h may grow from one forward pass to the next before it is clamped."""
TILE = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 128, "num_warps": 8, "num_stages": 3}
_E4M3 = torch.float8_e4m3fn
_LARGEST_E4M3 = torch.finfo(_E4M3).max


def float8_relu_squared_mlp(
    x_TD: Tensor, w_in_FD: Tensor, w_out_FD: Tensor, largest_h: Tensor
) -> tuple[Tensor, Tensor]:
    """relu(x W_in^T)^2 W_out in float8.

    Args:
        x_TD: [T, D]; D and F are multiples of 16.
        w_in_FD: [F, D]; may be a float32 master, as in the 16-bit MLP.
        w_out_FD: [F, D].
        largest_h: float32 scalar, the largest h of the previous forward pass; 0 before the first.

    Returns:
        [T, D] in the dtype of `x_TD`, differentiable in x and both weights, and the largest h of
        this pass.
    """
    y_TD, _, largest = _forward_operator(x_TD, w_in_FD, w_out_FD, largest_h)
    return y_TD, largest.detach()


def scale_of_h(largest_h: Tensor) -> Tensor:
    """What float8 values of h are multiplied by: float32 scalar, 1 before anything is known."""
    return torch.where(largest_h > 0, largest_h * (HEADROOM / _LARGEST_E4M3), 1.0)


@triton.jit
def float8_product_kernel(
    x_blocks,  # descriptor of x [T, D], e4m3
    weight_blocks,  # descriptor of W_in [F, D], e4m3
    h_blocks,  # descriptor of h [T, F], written
    h8_blocks,  # descriptor of h [T, F] in e4m3, written
    largest_ptr,  # float32 [tiles], written: the largest h of each tile
    product_scale_ptr,  # float32 [1], of x W_in^T
    h_scale_ptr,  # float32 [1]
    num_rows,
    num_columns,
    width,
    largest_float8,
    PRECISION: tl.constexpr,
    PROGRAMS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Tiles of relu(x W_in^T)^2 in 16 and in 8 bits."""
    product_scale = tl.load(product_scale_ptr)
    per_h_scale = 1.0 / tl.load(h_scale_ptr)
    tiles = tl.cdiv(num_rows, BLOCK_M) * tl.cdiv(num_columns, BLOCK_N)
    # One pipeline over tiles and width: a tile's first loads do not wait for the tile before.
    for tile in tl.range(tl.program_id(0), tiles, PROGRAMS, flatten=True):
        row_tile, column_tile = grouped_tile(tile, num_rows, num_columns, BLOCK_M, BLOCK_N)
        row, column = row_tile * BLOCK_M, column_tile * BLOCK_N
        # fmt: off
        accumulator = product_of_blocks(
            x_blocks, weight_blocks, row, column, width, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
        )
        # fmt: on
        positive = tl.maximum(accumulator * product_scale, 0.0)
        h = positive * positive
        tl.store(largest_ptr + tile, tl.max(h))
        h_blocks.store([row, column], h.to(h_blocks.dtype))
        h8 = tl.minimum(h * per_h_scale, largest_float8)
        h8_blocks.store([row, column], h8.to(h8_blocks.dtype))


def launch_float8_product(
    x8_TD: Tensor,
    weight8_FD: Tensor,
    product_scale: Tensor,
    h_scale: Tensor,
    dtype: torch.dtype,
    tile: dict[str, int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """relu(x W_in^T)^2 in `dtype` and in e4m3, and its largest element.

    CPU tensors are for Triton's interpreter.
    """
    tile = tile or TILE
    (num_rows, width), num_columns = x8_TD.shape, len(weight8_FD)
    rows, columns, inner = (tile[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    h_TF = torch.empty(num_rows, num_columns, dtype=dtype, device=x8_TD.device)
    h8_TF = torch.empty_like(h_TF, dtype=_E4M3)
    tiles = triton.cdiv(num_rows, rows) * triton.cdiv(num_columns, columns)
    largest = torch.empty(tiles, dtype=torch.float32, device=x8_TD.device)
    programs = min(programs_at_once(x8_TD, tile["num_warps"]), tiles)
    float8_product_kernel[(programs,)](
        TensorDescriptor.from_tensor(x8_TD, [rows, inner]),
        TensorDescriptor.from_tensor(weight8_FD, [columns, inner]),
        TensorDescriptor.from_tensor(h_TF, [rows, columns]),
        TensorDescriptor.from_tensor(h8_TF, [rows, columns]),
        *(largest, product_scale, h_scale, num_rows, num_columns, width, _LARGEST_E4M3),
        PRECISION=dot_precision(dtype),
        PROGRAMS=programs,
        **tile,
    )
    return h_TF, h8_TF, largest.max()


def float8_product_reference(
    x8_TD: Tensor,
    weight8_FD: Tensor,
    product_scale: Tensor,
    h_scale: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in plain PyTorch, summed in float32 or wider."""
    wide = torch.promote_types(dtype, torch.float32)
    h_TF = (x8_TD.to(wide) @ weight8_FD.to(wide).T * product_scale).relu_().square_()
    h8_TF = (h_TF / h_scale).clamp(max=_LARGEST_E4M3).to(_E4M3)
    return h_TF.to(dtype), h8_TF, h_TF.max().float()


@torch.library.custom_op("ramengpt::float8_relu_squared_mlp", mutates_args=())
def _forward_operator(
    x_TD: Tensor, w_in_FD: Tensor, w_out_FD: Tensor, largest_h: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, h, and the largest h."""
    x8_TD, x_scale = to_float8(x_TD)
    w_in8_FD, w_in_scale = to_float8(w_in_FD)
    w_out8_DF, w_out_scale = to_float8(w_out_FD.T)
    h_scale = scale_of_h(largest_h)
    up_product = launch_float8_product if x_TD.is_cuda else float8_product_reference
    h_TF, h8_TF, largest = up_product(x8_TD, w_in8_FD, x_scale * w_in_scale, h_scale, x_TD.dtype)
    if x_TD.is_cuda:
        y_TD = torch._scaled_mm(
            h8_TF, w_out8_DF.T, h_scale, w_out_scale, out_dtype=x_TD.dtype, use_fast_accum=True
        )
    else:
        wide = torch.promote_types(x_TD.dtype, torch.float32)
        y_TD = h8_TF.to(wide) @ w_out8_DF.T.to(wide) * (h_scale * w_out_scale)
    return y_TD.to(x_TD.dtype), h_TF, largest


@_forward_operator.register_fake
def _forward_shapes(
    x_TD: Tensor, w_in_FD: Tensor, w_out_FD: Tensor, largest_h: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    h_TF = x_TD.new_empty(x_TD.shape[0], w_in_FD.shape[0])
    return torch.empty_like(x_TD), h_TF, torch.empty_like(largest_h)


def _keep_for_backward(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]
) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:3], output[1])


def _gradients(
    ctx: torch.autograd.function.FunctionCtx, grad_TD: Tensor | None, *_: Tensor | None
) -> tuple[Tensor | None, ...]:
    if grad_TD is None:
        return None, None, None, None
    return *gradient_operator(grad_TD, *ctx.saved_tensors), None  # type: ignore[attr-defined]


_forward_operator.register_autograd(_gradients, setup_context=_keep_for_backward)
