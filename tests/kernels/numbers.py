# ruff: noqa: PLR0917
"""Comparisons and inputs of the kernels' tests."""

from collections.abc import Callable

import torch
from torch import Tensor

from ramengpt.kernels.qkv_prologue import Rotation

EPSILON = 1e-3
"""Of the norm: large enough to be seen."""
SOFTCAP = (23.0, 5.0, 7.5)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected|| in float64; infinite if anything is NaN."""
    difference = (found.double().cpu() - expected.double().cpu()).norm()
    error = difference / expected.double().cpu().norm()
    return float("inf") if error.isnan() else float(error)


def head_inputs(
    tokens: int, width: int, rows: int, vocabulary: int, dtype: torch.dtype, device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, W, targets and weights of a head, freshly drawn."""
    x_TD = torch.randn(tokens, width, device=device).to(dtype)
    weight_VD = (torch.randn(rows, width, device=device) * 0.5).to(dtype)
    targets_T = torch.randint(0, vocabulary, (tokens,), device=device, dtype=torch.int32)
    targets_T[:2] = torch.tensor([0, vocabulary - 1])
    return x_TD, weight_VD, targets_T, torch.rand(tokens, device=device) / tokens


def several_targets(targets_T: Tensor, vocabulary: int, count: int) -> tuple[Tensor, Tensor]:
    """`count` targets and weights [T, count]: some missing, some equal, a few of weight 0 only."""
    tokens, device = len(targets_T), targets_T.device
    targets_TK = torch.randint(0, vocabulary, (tokens, count), device=device, dtype=torch.int32)
    targets_TK[:, 0] = targets_T
    targets_TK[1::3] = targets_TK[1::3, :1]
    weights_TK = torch.rand(tokens, count, device=device) / tokens
    weights_TK[:, 1:][torch.rand(tokens, count - 1, device=device) < 0.3] = 0
    weights_TK[-2:] = 0
    return targets_TK, weights_TK


def attention_numbers(
    lengths: list[int], num_heads: int, head_dim: int, dtype: torch.dtype, device: str = "cpu"
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Rotation]:
    """qkv, positions in documents of these lengths, value and gate; and rotations."""
    tokens = sum(lengths)
    qkv_T3HK = torch.randn(tokens, 3, num_heads, head_dim, device=device).to(dtype)
    positions_T = torch.cat([torch.arange(n, dtype=torch.int32) for n in lengths]).to(device)
    value_THK = torch.randn(tokens, num_heads, head_dim, device=device).to(dtype)
    gate_TH = (torch.rand(tokens, num_heads, device=device) * 2).to(dtype)
    angles_TF = torch.rand(tokens, head_dim // 4, device=device) * 6
    scale = torch.tensor(0.3, device=device)
    rotation = Rotation(angles_TF.cos(), angles_TF.sin(), scale)
    return (qkv_T3HK, positions_T, value_THK, gate_TH), rotation


def double(rotation: Rotation) -> Rotation:
    """The same rotations in float64."""
    tables = (rotation.cos_TF, rotation.sin_TF, rotation.attention_scale)
    return Rotation(*(t.double() for t in tables))


def before_in(positions_T: Tensor) -> Callable[[Tensor], Tensor]:
    """What was at the token before, or is at the token itself where a document starts."""

    def before(x: Tensor) -> Tensor:
        rows = [t - 1 if position else t for t, position in enumerate(positions_T.tolist())]
        return x[rows]

    return before
