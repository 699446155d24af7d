"""What is no longer a finite number: a loss, the norm of a gradient, a weight."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch


def not_finite_in_row(table: str, row: Mapping[str, float]) -> str:
    """Say what a logged row has that is not finite; empty if its loss and norms are."""
    norms = {name: value for name, value in row.items() if name.startswith("gradient_norm_")}
    if all(math.isfinite(value) for value in (row["loss"], *norms.values())):
        return ""
    listed = ", ".join(f"{name}: {value:.4g}" for name, value in norms.items())
    return f"the {table} loss is {row['loss']:.4g} ({listed or 'measured on held-out text'})"


def not_finite_in_state(state: Mapping[str, Any]) -> str:
    """Say which tensor of a nested state has an element that is not finite; empty if none has.

    Loss and norms are computed before the update, which may overflow although they do not.
    """
    tensors = dict(_tensors(state))
    finite = [tensor.isfinite().all() for tensor in tensors.values()]
    if not finite or bool(torch.stack([each.to(finite[0].device) for each in finite]).all()):
        return ""
    name = next(name for name, each in zip(tensors, finite, strict=True) if not bool(each))
    return f"{name} holds a value that is not finite"


def _tensors(state: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Floating-point tensors of a nested state, each with its path."""
    if isinstance(state, torch.Tensor) and state.is_floating_point():
        yield path, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(value, f"{path}.{key}" if path else str(key))
    elif isinstance(state, list | tuple):
        for number, value in enumerate(state):
            yield from _tensors(value, f"{path}.{number}")
