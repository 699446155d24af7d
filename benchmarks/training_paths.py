"""The ways to train that `benchmarks.reference_path` compares.

The fast path is what a real run does. The reference is eager, uses SDPA, and has our kernels
replaced by their plain PyTorch.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ramengpt.kernels import symmetric_matmul
from ramengpt.kernels.head.softcapped_cross_entropy import softcapped_cross_entropy_reference
from ramengpt.kernels.relu_squared_mlp import linear_relu_squared_mlp_reference
from ramengpt.model import attention, head, mlp
from ramengpt.optimizers import muon, polar_express


@dataclass(frozen=True)
class TrainingPath:
    """A way to train: values of params.yaml, and what to replace while it runs."""

    overrides: tuple[str, ...]
    replaced: Callable[[], AbstractContextManager[Any]]
    seed_offset: int = 0
    """Added to the seed of the weights."""


@contextmanager
def plain_operations(*, float32: bool) -> Iterator[None]:
    """Plain PyTorch instead of our kernels, no TF32, and Polar Express in the weights' dtype."""
    precision = torch.get_float32_matmul_precision()
    with ExitStack() as stack:
        for module, name, plain in (
            (head, "softcapped_cross_entropy", _cross_entropy_reference),
            (mlp, "linear_relu_squared_mlp", linear_relu_squared_mlp_reference),
            (attention, "kernel_supports", _supports_no_kernel),
            (polar_express, "_symmetric_products", _symmetric_products_reference),
        ):
            stack.enter_context(patch.object(module, name, plain))
        if float32:
            stack.enter_context(patch.object(muon, "normalised_wide", _normalised_wide_float32))
        torch.set_float32_matmul_precision("highest")
        stack.callback(torch.set_float32_matmul_precision, precision)
        yield


def _cross_entropy_reference(*arguments: Any, float8: bool) -> tuple[Tensor, Tensor]:
    """In the dtype of its input, whatever `float8` says."""
    return softcapped_cross_entropy_reference(*arguments)


def _supports_no_kernel(_qkv_T3HK: Tensor) -> bool:
    return False


def _symmetric_products_reference(_x_NSB: Tensor) -> tuple[Callable[..., Tensor], ...]:
    return (
        symmetric_matmul.symmetric_product_reference,
        symmetric_matmul.symmetric_quadratic_reference,
    )


def _normalised_wide_float32(matrix_NRC: Tensor, headroom: float, _dtype: torch.dtype) -> Tensor:
    return polar_express.normalised_wide(matrix_NRC, headroom, matrix_NRC.dtype)


@contextmanager
def kernels_at_any_size() -> Iterator[None]:
    """Use our kernels for symmetric GEMMs even where cuBLAS is faster."""
    with patch.object(symmetric_matmul, "SMALLEST_WORTHWHILE_ROWS", 0):
        yield


FAST, REFERENCE, FLOAT32 = "fast", "reference", "reference, float32"
OTHER_SEEDS = {f"fast, seed {number}": number - 1 for number in (2, 3, 4)}
"""What each adds to the seed of the weights."""
PLAIN = ("train.compile=no", "train.attention_backend=sdpa")
PATHS = {
    FAST: TrainingPath((), kernels_at_any_size),
    **{
        name: TrainingPath((), kernels_at_any_size, seed_offset)
        for name, seed_offset in OTHER_SEEDS.items()
    },
    REFERENCE: TrainingPath(
        (*PLAIN, "train.precision=bfloat16"), partial(plain_operations, float32=False)
    ),
    FLOAT32: TrainingPath(
        (*PLAIN, "train.precision=float32"), partial(plain_operations, float32=True)
    ),
}


class OwnOperators(TorchDispatchMode):
    """Records which of our operators run inside a `with`; eager code only."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let every operator through."""
        if func.namespace == "ramengpt":
            self.names.add(str(func))
        return func(*args, **(kwargs or {}))
