# ruff: noqa: PLR0917
# mypy: disallow-untyped-defs=False
"""A candidate: all that happens to queries, keys and values between two products, in one kernel.

Norm and rotation of q and k, the key offset and the value embedding, forward and backward, each
element read and written once. PyTorch's compiler makes the same of `ramengpt.model.attention`;
`python -m benchmarks --only kernels` holds the two against each other and against the traffic.

Shapes: T packed tokens, H heads, K head_dim, F = K / 4 frequencies.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramengpt.model.norm import EPSILON, normalise
from ramengpt.model.rope import Rotation

BLOCK_TOKENS, NUM_WARPS = 16, 4


@dataclass(frozen=True)
class Heads:
    """What queries, keys and values are made with.

    Attributes:
        cos_TF: float32, of each token's angles.
        sin_TF: float32.
        scale: float32 scalar tensor, of the queries.
        starts_T: bool, where documents start.
        offsets_keys: whether quarters of the keys come from the token before.
        value_THK: added to the values, times the gate; None without.
        gate_TH: in (0, 2); None without.
    """

    cos_TF: Tensor
    sin_TF: Tensor
    scale: Tensor
    starts_T: Tensor
    offsets_keys: bool
    value_THK: Tensor | None
    gate_TH: Tensor | None


def heads_reference(qkv_T3HK: Tensor, heads: Heads) -> Tensor:
    """Queries, keys and values [3, T, H, K] in plain PyTorch, as `Attention` makes them."""
    rotation = Rotation(heads.cos_TF[:, None], heads.sin_TF[:, None], heads.scale)
    q, k, v = qkv_T3HK.unbind(1)
    q = rotation.turn(normalise(q.to(rotation.dtype))) * rotation.attention_scale
    k = rotation.turn(normalise(k.to(rotation.dtype)))
    if heads.offsets_keys:
        first, still, third, fourth = k.chunk(4, dim=-1)
        here = torch.cat([still, fourth], dim=-1)
        starts = heads.starts_T[:, None, None]
        still, fourth = torch.where(starts, here, torch.roll(here, 1, 0)).chunk(2, dim=-1)
        k = torch.cat([first, still, third, fourth], dim=-1)
    if heads.value_THK is not None and heads.gate_TH is not None:
        v = v + heads.gate_TH[..., None] * heads.value_THK
    return torch.stack([q.to(v.dtype), k.to(v.dtype), v])


@triton.jit
def _quarters(ptr, mask, QUARTER: tl.constexpr):
    """Four [T, F] pieces of a head, float32."""
    first = tl.load(ptr, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(ptr + QUARTER, mask=mask, other=0.0).to(tl.float32)
    third = tl.load(ptr + 2 * QUARTER, mask=mask, other=0.0).to(tl.float32)
    fourth = tl.load(ptr + 3 * QUARTER, mask=mask, other=0.0).to(tl.float32)
    return first, second, third, fourth


@triton.jit
def _store(ptr, mask, first, second, third, fourth, QUARTER: tl.constexpr):
    dtype = ptr.dtype.element_ty
    tl.store(ptr, first.to(dtype), mask=mask)
    tl.store(ptr + QUARTER, second.to(dtype), mask=mask)
    tl.store(ptr + 2 * QUARTER, third.to(dtype), mask=mask)
    tl.store(ptr + 3 * QUARTER, fourth.to(dtype), mask=mask)


@triton.jit
def _inverse_norm(first, second, third, fourth, epsilon, QUARTER: tl.constexpr):
    squares = first * first + second * second + third * third + fourth * fourth
    return tl.rsqrt(tl.sum(squares, axis=1) / (4 * QUARTER) + epsilon)[:, None]


@triton.jit
def heads_kernel(
    qkv_ptr,  # [T, 3, H, K]
    cos_ptr,  # [T, F]
    sin_ptr,  # [T, F]
    scale_ptr,
    starts_ptr,  # [T]
    value_ptr,  # [T, H, K], read if VALUES
    gate_ptr,  # [T, H], read if VALUES
    out_ptr,  # [3, T, H, K], written
    num_tokens,
    num_heads,
    epsilon,
    OFFSET: tl.constexpr,
    VALUES: tl.constexpr,
    QUARTER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """q, k and v of BLOCK tokens of one head."""
    head = tl.program_id(1)
    tokens = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = (tokens < num_tokens)[:, None]
    units = tl.arange(0, QUARTER)[None, :]
    wide = num_heads * 4 * QUARTER
    angles = tokens[:, None] * QUARTER + units
    cos = tl.load(cos_ptr + angles, mask=inside, other=1.0)
    sin = tl.load(sin_ptr + angles, mask=inside, other=0.0)
    source = qkv_ptr + tokens[:, None].to(tl.int64) * 3 * wide + head * 4 * QUARTER + units
    target = out_ptr + tokens[:, None].to(tl.int64) * wide + head * 4 * QUARTER + units
    plane = num_tokens.to(tl.int64) * wide

    a, b, c, d = _quarters(source, inside, QUARTER)
    norm = _inverse_norm(a, b, c, d, epsilon, QUARTER) * tl.load(scale_ptr)
    turned, other = (a * cos + c * sin) * norm, (c * cos - a * sin) * norm
    _store(target, inside, turned, b * norm, other, d * norm, QUARTER)

    a, b, c, d = _quarters(source + wide, inside, QUARTER)
    norm = _inverse_norm(a, b, c, d, epsilon, QUARTER)
    turned, other = (a * cos + c * sin) * norm, (c * cos - a * sin) * norm
    b, d = b * norm, d * norm
    if OFFSET:
        starts = tl.load(starts_ptr + tokens, mask=tokens < num_tokens, other=1)[:, None] != 0
        before = inside & (tokens > 0)[:, None]
        e, f, g, h = _quarters(source + wide - 3 * wide, before, QUARTER)
        norm = _inverse_norm(e, f, g, h, epsilon, QUARTER)
        b, d = tl.where(starts, b, f * norm), tl.where(starts, d, h * norm)
    _store(target + plane, inside, turned, b, other, d, QUARTER)

    a, b, c, d = _quarters(source + 2 * wide, inside, QUARTER)
    if VALUES:
        gate_ptrs = gate_ptr + tokens * num_heads + head
        gate = tl.load(gate_ptrs, mask=tokens < num_tokens, other=0.0).to(tl.float32)[:, None]
        value_ptrs = value_ptr + tokens[:, None].to(tl.int64) * wide + head * 4 * QUARTER + units
        e, f, g, h = _quarters(value_ptrs, inside, QUARTER)
        a, b, c, d = a + gate * e, b + gate * f, c + gate * g, d + gate * h
    _store(target + 2 * plane, inside, a, b, c, d, QUARTER)


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
def heads_gradient_kernel(
    qkv_ptr,  # [T, 3, H, K]
    cos_ptr,  # [T, F]
    sin_ptr,  # [T, F]
    scale_ptr,
    starts_ptr,  # [T]
    value_ptr,  # [T, H, K], read if VALUES
    gate_ptr,  # [T, H], read if VALUES
    dq_ptr,  # [T, H, K] of any strides but the last, as are dk and dv
    dk_ptr,
    dv_ptr,
    dqkv_ptr,  # [T, 3, H, K], written
    dvalue_ptr,  # [T, H, K], written if VALUES
    dgate_ptr,  # float32 [T, H], written if VALUES
    token_stride,
    head_stride,
    num_tokens,
    num_heads,
    epsilon,
    OFFSET: tl.constexpr,
    VALUES: tl.constexpr,
    QUARTER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of what `heads_kernel` read, for BLOCK tokens of one head."""
    head = tl.program_id(1)
    tokens = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = (tokens < num_tokens)[:, None]
    units = tl.arange(0, QUARTER)[None, :]
    wide = num_heads * 4 * QUARTER
    angles = tokens[:, None] * QUARTER + units
    cos = tl.load(cos_ptr + angles, mask=inside, other=1.0)
    sin = tl.load(sin_ptr + angles, mask=inside, other=0.0)
    scale = tl.load(scale_ptr)
    own = tokens[:, None].to(tl.int64) * 3 * wide + head * 4 * QUARTER + units
    given = tokens[:, None].to(tl.int64) * token_stride + head * head_stride + units

    a, b, c, d = _quarters(qkv_ptr + own, inside, QUARTER)
    e, f, g, h = _quarters(dq_ptr + given, inside, QUARTER)
    e, g = (e * cos - g * sin) * scale, (e * sin + g * cos) * scale
    a, b, c, d = _through_norm(a, b, c, d, e, f * scale, g, h * scale, epsilon, QUARTER)
    _store(dqkv_ptr + own, inside, a, b, c, d, QUARTER)

    a, b, c, d = _quarters(qkv_ptr + own + wide, inside, QUARTER)
    e, f, g, h = _quarters(dk_ptr + given, inside, QUARTER)
    e, g = e * cos - g * sin, e * sin + g * cos
    if OFFSET:
        starts = tl.load(starts_ptr + tokens, mask=tokens < num_tokens, other=1)[:, None] != 0
        has_next = tokens + 1 < num_tokens
        next_starts = tl.load(starts_ptr + tokens + 1, mask=has_next, other=1) != 0
        passed_on = (has_next & (next_starts == 0))[:, None]
        later = dk_ptr + given + token_stride
        f_next = tl.load(later + QUARTER, mask=passed_on, other=0.0).to(tl.float32)
        h_next = tl.load(later + 3 * QUARTER, mask=passed_on, other=0.0).to(tl.float32)
        f, h = tl.where(starts, f, 0.0) + f_next, tl.where(starts, h, 0.0) + h_next
    a, b, c, d = _through_norm(a, b, c, d, e, f, g, h, epsilon, QUARTER)
    _store(dqkv_ptr + own + wide, inside, a, b, c, d, QUARTER)

    e, f, g, h = _quarters(dv_ptr + given, inside, QUARTER)
    _store(dqkv_ptr + own + 2 * wide, inside, e, f, g, h, QUARTER)
    if VALUES:
        places = tokens[:, None].to(tl.int64) * wide + head * 4 * QUARTER + units
        a, b, c, d = _quarters(value_ptr + places, inside, QUARTER)
        gates = tokens * num_heads + head
        dgate = tl.sum(a * e + b * f + c * g + d * h, axis=1)
        tl.store(dgate_ptr + gates, dgate, mask=tokens < num_tokens)
        gate = tl.load(gate_ptr + gates, mask=tokens < num_tokens, other=0.0).to(tl.float32)
        gate = gate[:, None]
        _store(dvalue_ptr + places, inside, gate * e, gate * f, gate * g, gate * h, QUARTER)


def launch_heads(qkv_T3HK: Tensor, heads: Heads) -> Tensor:
    """Queries, keys and values [3, T, H, K] (CPU tensors: Triton's interpreter)."""
    num_tokens, _, num_heads, head_dim = qkv_T3HK.shape
    out = qkv_T3HK.new_empty(3, num_tokens, num_heads, head_dim)
    heads_kernel[(triton.cdiv(num_tokens, BLOCK_TOKENS), num_heads)](
        *_read(qkv_T3HK, heads),
        *(out, num_tokens, num_heads, EPSILON),
        **_launch(heads, head_dim),
    )
    return out


def launch_heads_gradient(
    qkv_T3HK: Tensor, heads: Heads, dq_THK: Tensor, dk_THK: Tensor, dv_THK: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv, and of value and gate (empty without); the three given share strides."""
    num_tokens, _, num_heads, head_dim = qkv_T3HK.shape
    assert dq_THK.stride() == dk_THK.stride() == dv_THK.stride() and dq_THK.stride(2) == 1
    dqkv = torch.empty_like(qkv_T3HK)
    dvalue = qkv_T3HK.new_empty(0) if heads.value_THK is None else torch.empty_like(heads.value_THK)
    dgate = torch.empty(dvalue.shape[:2], dtype=torch.float32, device=qkv_T3HK.device)
    heads_gradient_kernel[(triton.cdiv(num_tokens, BLOCK_TOKENS), num_heads)](
        *_read(qkv_T3HK, heads),
        *(dq_THK, dk_THK, dv_THK, dqkv, dvalue, dgate),
        *(dq_THK.stride(0), dq_THK.stride(1), num_tokens, num_heads, EPSILON),
        **_launch(heads, head_dim),
    )
    return dqkv, dvalue, dgate


def _read(qkv_T3HK: Tensor, heads: Heads) -> tuple[Tensor, ...]:
    nothing = qkv_T3HK
    value = nothing if heads.value_THK is None else heads.value_THK
    gate = nothing if heads.gate_TH is None else heads.gate_TH
    starts = heads.starts_T.to(torch.int8)
    return qkv_T3HK, heads.cos_TF, heads.sin_TF, heads.scale, starts, value, gate


def _launch(heads: Heads, head_dim: int) -> dict[str, int | bool]:
    return {
        "OFFSET": heads.offsets_keys,
        "VALUES": heads.value_THK is not None,
        "QUARTER": head_dim // 4,
        "BLOCK": BLOCK_TOKENS,
        "num_warps": NUM_WARPS,
    }
