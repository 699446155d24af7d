# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""The kernels of `ramengpt.kernels.qkv_prologue`: one program handles some tokens of one head.

A head is four quarters of F units, of which the first and third turn; each is a block [BLOCK, F].

Shapes: T packed tokens, H heads, K head_dim, F = K / 4.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

LAUNCH = {"BLOCK": 16, "num_warps": 4}
"""As fast on an H200 as 8 tokens with 2 warps and 32 with 8; fewer tokens per warp are slower."""


@triton.jit
def _quarters(ptrs, mask, QUARTER: tl.constexpr):
    """The four quarters of heads, float32."""
    first = tl.load(ptrs, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(ptrs + QUARTER, mask=mask, other=0.0).to(tl.float32)
    third = tl.load(ptrs + 2 * QUARTER, mask=mask, other=0.0).to(tl.float32)
    fourth = tl.load(ptrs + 3 * QUARTER, mask=mask, other=0.0).to(tl.float32)
    return first, second, third, fourth


@triton.jit
def _store(ptrs, mask, first, second, third, fourth, QUARTER: tl.constexpr):
    dtype = ptrs.dtype.element_ty
    tl.store(ptrs, first.to(dtype), mask=mask)
    tl.store(ptrs + QUARTER, second.to(dtype), mask=mask)
    tl.store(ptrs + 2 * QUARTER, third.to(dtype), mask=mask)
    tl.store(ptrs + 3 * QUARTER, fourth.to(dtype), mask=mask)


@triton.jit
def _inverse_norm(first, second, third, fourth, epsilon, QUARTER: tl.constexpr):
    squares = first * first + second * second + third * third + fourth * fourth
    return tl.rsqrt(tl.sum(squares, axis=1) / (4 * QUARTER) + epsilon)[:, None]


@triton.jit
def _place(cos_ptr, sin_ptr, num_tokens, QUARTER: tl.constexpr, BLOCK: tl.constexpr):
    """This program's tokens, which of them exist, and their angles."""
    tokens = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = (tokens < num_tokens)[:, None]
    angles = tokens[:, None] * QUARTER + tl.arange(0, QUARTER)[None, :]
    cos = tl.load(cos_ptr + angles, mask=inside, other=1.0)
    sin = tl.load(sin_ptr + angles, mask=inside, other=0.0)
    return tokens, inside, cos, sin


@triton.jit
def _heads(ptr, tokens, token_stride, head_stride, QUARTER: tl.constexpr):
    """Pointers to the first quarter of this program's head at some tokens."""
    head = tl.program_id(1) * head_stride + tl.arange(0, QUARTER)
    return ptr + tokens[:, None].to(tl.int64) * token_stride + head[None, :]


@triton.jit
def inputs_kernel(
    qkv_ptr,  # [T, 3, H, K]
    cos_ptr,  # float32 [T, F]
    sin_ptr,  # float32 [T, F]
    scale_ptr,  # float32 [1]
    positions_ptr,  # [T], read if OFFSET
    value_ptr,  # [T, H, K], read if VALUES
    gate_ptr,  # [T, H], read if VALUES
    q_ptr,  # [T, H, K], written, as are k and v
    k_ptr,
    v_ptr,
    num_tokens,
    num_heads,
    epsilon,
    OFFSET: tl.constexpr,
    VALUES: tl.constexpr,
    QUARTER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """q, k and v of BLOCK tokens of one head."""
    tokens, inside, cos, sin = _place(cos_ptr, sin_ptr, num_tokens, QUARTER, BLOCK)
    row = num_heads * 4 * QUARTER
    source = _heads(qkv_ptr, tokens, 3 * row, 4 * QUARTER, QUARTER)

    a, b, c, d = _quarters(source, inside, QUARTER)
    norm = _inverse_norm(a, b, c, d, epsilon, QUARTER) * tl.load(scale_ptr)
    real, imaginary = (a * cos + c * sin) * norm, (c * cos - a * sin) * norm
    target = _heads(q_ptr, tokens, row, 4 * QUARTER, QUARTER)
    _store(target, inside, real, b * norm, imaginary, d * norm, QUARTER)

    a, b, c, d = _quarters(source + row, inside, QUARTER)
    norm = _inverse_norm(a, b, c, d, epsilon, QUARTER)
    real, imaginary = (a * cos + c * sin) * norm, (c * cos - a * sin) * norm
    b, d = b * norm, d * norm
    if OFFSET:
        positions = tl.load(positions_ptr + tokens, mask=tokens < num_tokens, other=0)
        looks_back = (positions > 0)[:, None]
        e, f, g, h = _quarters(source - 2 * row, looks_back, QUARTER)
        norm = _inverse_norm(e, f, g, h, epsilon, QUARTER)
        b, d = tl.where(looks_back, f * norm, b), tl.where(looks_back, h * norm, d)
    target = _heads(k_ptr, tokens, row, 4 * QUARTER, QUARTER)
    _store(target, inside, real, b, imaginary, d, QUARTER)

    a, b, c, d = _quarters(source + 2 * row, inside, QUARTER)
    if VALUES:
        gate_ptrs = gate_ptr + tokens * num_heads + tl.program_id(1)
        gate = tl.load(gate_ptrs, mask=tokens < num_tokens, other=0.0).to(tl.float32)[:, None]
        value = _heads(value_ptr, tokens, row, 4 * QUARTER, QUARTER)
        e, f, g, h = _quarters(value, inside, QUARTER)
        a, b, c, d = a + gate * e, b + gate * f, c + gate * g, d + gate * h
    target = _heads(v_ptr, tokens, row, 4 * QUARTER, QUARTER)
    _store(target, inside, a, b, c, d, QUARTER)


@triton.jit
def _through_norm(a, b, c, d, da, db, dc, dd, epsilon, QUARTER: tl.constexpr):
    """Gradient of a head's units from that of its normed units."""
    norm = _inverse_norm(a, b, c, d, epsilon, QUARTER)
    along = tl.sum(a * da + b * db + c * dc + d * dd, axis=1)[:, None] / (4 * QUARTER)
    along = along * norm * norm
    return (
        (da - a * along) * norm,
        (db - b * along) * norm,
        (dc - c * along) * norm,
        (dd - d * along) * norm,
    )


@triton.jit
def gradients_kernel(
    qkv_ptr,  # [T, 3, H, K]
    cos_ptr,  # float32 [T, F]
    sin_ptr,  # float32 [T, F]
    scale_ptr,  # float32 [1]
    positions_ptr,  # [T], read if OFFSET
    value_ptr,  # [T, H, K], read if VALUES
    gate_ptr,  # [T, H], read if VALUES
    dq_ptr,  # [T, H, K] of any strides but the last, as are dk and dv
    dk_ptr,
    dv_ptr,
    dqkv_ptr,  # [T, 3, H, K], written
    dvalue_ptr,  # [T, H, K], written if VALUES
    dgate_ptr,  # [T, H], written if VALUES
    dq_token_stride,
    dq_head_stride,
    dk_token_stride,
    dk_head_stride,
    dv_token_stride,
    dv_head_stride,
    num_tokens,
    num_heads,
    epsilon,
    OFFSET: tl.constexpr,
    VALUES: tl.constexpr,
    QUARTER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of what `inputs_kernel` read, for BLOCK tokens of one head."""
    tokens, inside, cos, sin = _place(cos_ptr, sin_ptr, num_tokens, QUARTER, BLOCK)
    row = num_heads * 4 * QUARTER
    source = _heads(qkv_ptr, tokens, 3 * row, 4 * QUARTER, QUARTER)
    target = _heads(dqkv_ptr, tokens, 3 * row, 4 * QUARTER, QUARTER)
    scale = tl.load(scale_ptr)

    a, b, c, d = _quarters(source, inside, QUARTER)
    dq = _heads(dq_ptr, tokens, dq_token_stride, dq_head_stride, QUARTER)
    e, f, g, h = _quarters(dq, inside, QUARTER)
    e, g = (e * cos - g * sin) * scale, (e * sin + g * cos) * scale
    a, b, c, d = _through_norm(a, b, c, d, e, f * scale, g, h * scale, epsilon, QUARTER)
    _store(target, inside, a, b, c, d, QUARTER)

    a, b, c, d = _quarters(source + row, inside, QUARTER)
    dk = _heads(dk_ptr, tokens, dk_token_stride, dk_head_stride, QUARTER)
    e, f, g, h = _quarters(dk, inside, QUARTER)
    e, g = e * cos - g * sin, e * sin + g * cos
    if OFFSET:
        position_ptrs = positions_ptr + tokens
        starts = tl.load(position_ptrs, mask=tokens < num_tokens, other=0)[:, None] == 0
        next_position = tl.load(position_ptrs + 1, mask=tokens + 1 < num_tokens, other=0)
        looked_at = (next_position > 0)[:, None]
        later = dk + dk_token_stride
        f_later = tl.load(later + QUARTER, mask=looked_at, other=0.0).to(tl.float32)
        h_later = tl.load(later + 3 * QUARTER, mask=looked_at, other=0.0).to(tl.float32)
        f, h = tl.where(starts, f, 0.0) + f_later, tl.where(starts, h, 0.0) + h_later
    a, b, c, d = _through_norm(a, b, c, d, e, f, g, h, epsilon, QUARTER)
    _store(target + row, inside, a, b, c, d, QUARTER)

    dv = _heads(dv_ptr, tokens, dv_token_stride, dv_head_stride, QUARTER)
    e, f, g, h = _quarters(dv, inside, QUARTER)
    _store(target + 2 * row, inside, e, f, g, h, QUARTER)
    if VALUES:
        value = _heads(value_ptr, tokens, row, 4 * QUARTER, QUARTER)
        a, b, c, d = _quarters(value, inside, QUARTER)
        gates = tokens * num_heads + tl.program_id(1)
        dgate = tl.sum(a * e + b * f + c * g + d * h, axis=1)
        tl.store(dgate_ptr + gates, dgate.to(dgate_ptr.dtype.element_ty), mask=tokens < num_tokens)
        gate = tl.load(gate_ptr + gates, mask=tokens < num_tokens, other=0.0).to(tl.float32)
        gate = gate[:, None]
        dvalue = _heads(dvalue_ptr, tokens, row, 4 * QUARTER, QUARTER)
        _store(dvalue, inside, gate * e, gate * f, gate * g, gate * h, QUARTER)


class Operands(NamedTuple):
    """What both kernels read; see `qkv_prologue`."""

    qkv_T3HK: Tensor
    cos_TF: Tensor
    sin_TF: Tensor
    scale: Tensor
    positions_T: Tensor | None
    value_THK: Tensor | None
    gate_TH: Tensor | None
    epsilon: float


def launch_inputs(operands: Operands) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (CPU tensors: Triton's interpreter)."""
    inputs = empty_inputs(operands)
    _launch(inputs_kernel, operands, *inputs)
    return inputs


def empty_inputs(operands: Operands) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate queries, keys and values."""
    num_tokens, _, num_heads, head_dim = operands.qkv_T3HK.shape
    q, k, v = (operands.qkv_T3HK.new_empty(num_tokens, num_heads, head_dim) for _ in range(3))
    return q, k, v


def launch_gradients(
    upstream: tuple[Tensor, Tensor, Tensor], operands: Operands
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv, and of value and gate (empty without), from those of q, k and v."""
    given = [x if x.stride(2) == 1 else x.contiguous() for x in upstream]
    strides = [stride for x in given for stride in x.stride()[:2]]
    gradients = empty_gradients(operands)
    _launch(gradients_kernel, operands, *given, *gradients, *strides)
    return gradients


def empty_gradients(operands: Operands) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate the gradients of qkv, value and gate; empty for a missing part."""
    qkv, value, gate = operands.qkv_T3HK, operands.value_THK, operands.gate_TH
    dqkv, dvalue, dgate = (qkv.new_empty(0 if x is None else x.shape) for x in (qkv, value, gate))
    return dqkv, dvalue, dgate


def _launch(kernel: Any, operands: Operands, *others: Tensor | int) -> None:
    num_tokens, _, num_heads, head_dim = operands.qkv_T3HK.shape
    *tensors, epsilon = operands
    anything = operands.qkv_T3HK  # in place of what is not there and not read
    kernel[(triton.cdiv(num_tokens, LAUNCH["BLOCK"]), num_heads)](
        *((anything if x is None else x).contiguous() for x in tensors),
        *(*others, num_tokens, num_heads, epsilon),
        OFFSET=operands.positions_T is not None,
        VALUES=operands.value_THK is not None,
        QUARTER=head_dim // 4,
        **LAUNCH,
    )
