# ruff: noqa: PLR0917
"""Comparisons and inputs of the kernels' tests."""

import torch
from torch import Tensor

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
