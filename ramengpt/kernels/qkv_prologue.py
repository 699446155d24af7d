# ruff: noqa: PLR0917
"""QK norm, rotary embedding, key offset and value embedding, fused: from the qkv GEMM to attention.

    q = scale turn(norm(q))    k = turn(norm(k)), of which quarters may come from the token before
    v = v + gate value

On a GPU that is one kernel forward and one backward, which read and write every element once;
PyTorch's compiler emits several kernels. Only the inputs are saved for the backward pass.

Shapes: T packed tokens, H heads, K head_dim, F = K / 4 frequencies.

Sources: query-key norm (2010.04245); the rest as in `ramengpt.model.attention` and `.rope`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ramengpt.kernels.qkv_prologue_triton import (
    Operands,
    empty_gradients,
    empty_inputs,
    launch_gradients,
    launch_inputs,
)
from ramengpt.kernels.support import runs_kernels


@dataclass
class Rotation:
    """How positions and window act on queries and keys; the same in every layer."""

    cos_TF: Tensor
    sin_TF: Tensor
    attention_scale: Tensor

    def turn(self, x_THK: Tensor) -> Tensor:
        """Turn the first and third quarter of every head [T, H, K] by its position's angles.

        The product of two turned heads depends on the distance between their positions only.
        """
        cos_T1F, sin_T1F = self.cos_TF[:, None], self.sin_TF[:, None]
        real, still_real, imaginary, still_imaginary = x_THK.chunk(4, dim=-1)
        return torch.cat(
            [
                real * cos_T1F + imaginary * sin_T1F,
                still_real,
                imaginary * cos_T1F - real * sin_T1F,
                still_imaginary,
            ],
            dim=-1,
        )

    def doubled(self) -> "Rotation":
        """The rotation by twice the angles."""
        sin_TF = 2 * self.sin_TF * self.cos_TF
        return Rotation(1 - 2 * self.sin_TF.square(), sin_TF, self.attention_scale)


def kernel_supports(qkv_T3HK: Tensor) -> bool:
    """Whether :func:`qkv_prologue` supports this tensor; its reference supports every one."""
    head_dim = qkv_T3HK.shape[-1]
    is_power_of_two = head_dim & (head_dim - 1) == 0
    return runs_kernels(qkv_T3HK) and qkv_T3HK.dtype != torch.float64 and is_power_of_two


def qkv_prologue(
    qkv_T3HK: Tensor,
    rotation: Rotation,
    positions_T: Tensor | None,
    value_THK: Tensor | None,
    gate_TH: Tensor | None,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as attention reads them, on a GPU.

    Args:
        qkv_T3HK: from the qkv GEMM, [T, 3, H, K], K a power of two.
        rotation: float32, of each token's position.
        positions_T: int32 [T], offsets in whole documents: with them, the second and fourth quarter
            of a key come from the token before, if there is one. None for no key offset.
        value_THK: [T, H, K], added to the values times the gate; None without.
        gate_TH: [T, H]; None without.
        epsilon: added to the mean square of a head.

    Returns:
        Three tensors [T, H, K] in the dtype of `qkv_T3HK`, differentiable in it, value and gate.
    """
    return _forward_operator(
        qkv_T3HK,
        *(rotation.cos_TF, rotation.sin_TF, rotation.attention_scale),
        *(positions_T, value_THK, gate_TH, epsilon),
    )


def qkv_prologue_reference(
    qkv_T3HK: Tensor,
    rotation: Rotation,
    before: Callable[[Tensor], Tensor] | None,
    value_THK: Tensor | None,
    gate_TH: Tensor | None,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in plain PyTorch; `before` maps [T, ...] to its rows one token earlier."""
    q, k, v = qkv_T3HK.unbind(1)
    q, k = (
        rotation.turn(F.rms_norm(x.to(rotation.cos_TF.dtype), (x.size(-1),), eps=epsilon))
        for x in (q, k)
    )
    q = q * rotation.attention_scale
    if before is not None:
        quarters = k.unflatten(-1, (4, -1))
        turning, still = quarters[..., 0::2, :], quarters[..., 1::2, :]
        k = torch.stack([turning, before(still)], dim=-2).flatten(-3)
    if value_THK is not None and gate_TH is not None:
        v = v + gate_TH[..., None] * value_THK
    return q.to(v.dtype), k.to(v.dtype), v


@torch.library.custom_op("ramengpt::qkv_prologue", mutates_args=(), device_types="cuda")
def _forward_operator(
    qkv_T3HK: Tensor,
    cos_TF: Tensor,
    sin_TF: Tensor,
    scale: Tensor,
    positions_T: Tensor | None,
    value_THK: Tensor | None,
    gate_TH: Tensor | None,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values."""
    about = (cos_TF, sin_TF, scale, positions_T, value_THK, gate_TH, epsilon)
    return launch_inputs(Operands(qkv_T3HK, *about))


@_forward_operator.register_fake
def _forward_shapes(*operands: Any) -> tuple[Tensor, Tensor, Tensor]:
    return empty_inputs(Operands(*operands))


@torch.library.custom_op("ramengpt::qkv_prologue_gradient", mutates_args=(), device_types="cuda")
def _backward_operator(
    dq_THK: Tensor,
    dk_THK: Tensor,
    dv_THK: Tensor,
    qkv_T3HK: Tensor,
    cos_TF: Tensor,
    sin_TF: Tensor,
    scale: Tensor,
    positions_T: Tensor | None,
    value_THK: Tensor | None,
    gate_TH: Tensor | None,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv, and of value and gate (empty without)."""
    about = (cos_TF, sin_TF, scale, positions_T, value_THK, gate_TH, epsilon)
    return launch_gradients((dq_THK, dk_THK, dv_THK), Operands(qkv_T3HK, *about))


@_backward_operator.register_fake
def _backward_shapes(
    dq_THK: Tensor, dk_THK: Tensor, dv_THK: Tensor, *operands: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return empty_gradients(Operands(*operands))


def _keep_for_backward(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]
) -> None:
    *tensors, ctx.epsilon = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(*tensors)


def _gradients(
    ctx: torch.autograd.function.FunctionCtx, dq_THK: Tensor, dk_THK: Tensor, dv_THK: Tensor
) -> tuple[Tensor | None, ...]:
    operands = Operands._make((*ctx.saved_tensors, ctx.epsilon))  # type: ignore[attr-defined]
    dqkv, dvalue, dgate = _backward_operator(dq_THK, dk_THK, dv_THK, *operands)
    added = (None, None) if operands.value_THK is None else (dvalue, dgate)
    return dqkv, None, None, None, None, *added, None


_forward_operator.register_autograd(_gradients, setup_context=_keep_for_backward)
