"""What an update rule is, and the pieces that several of them share.

A rule updates a *stack*: one tensor that holds many parameters, or equal blocks of parameters.
Shapes: N matrices of R rows and C columns. Numbers that change from step to step are passed as
scalars on the device, so a new value neither recompiles anything nor waits for the device.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

SMALLEST_MEAN_SQUARE = 1e-36
"""Below this a mean square counts as 0: its root would be lost in float32."""

SMALLEST_NORM = 1e-18
"""Norms are divided by as if they were at least this, so that zero stays zero."""

MOST_VERSIONS = 64
"""Of one compiled function, over all rules that use it; PyTorch's own limit is 8."""

State = dict[str, Tensor]
"""What a rule keeps for a stack from step to step, all of it on the weight's device."""
ConfigT = TypeVar("ConfigT")


class DeviceScalars(NamedTuple):
    """The numbers of one update as tensors: three of them 0-dimensional, and the multipliers."""

    learning_rate: Tensor
    weight_decay: Tensor
    momentum: Tensor
    lr_mul: Tensor
    wd_mul: Tensor


@dataclass(frozen=True)
class StepScalars:
    """The numbers of one update of one stack.

    Attributes:
        update: how many updates the stack has had, this one included.
        learning_rate: with the schedule's multiplier, without the parameters' own.
        weight_decay: of the group.
        momentum: of this step.
        progress: share of all the run's steps that lies before this one.
        lr_mul: the parameters' own multipliers, broadcast against the stack.
        wd_mul: the same of weight decay.
    """

    update: int
    learning_rate: float
    weight_decay: float
    momentum: float
    progress: float
    lr_mul: Tensor
    wd_mul: Tensor

    def on_device(self) -> DeviceScalars:
        """The same as tensors on the device of the multipliers."""
        return DeviceScalars(
            learning_rate=scalar_like(self.learning_rate, self.lr_mul),
            weight_decay=scalar_like(self.weight_decay, self.lr_mul),
            momentum=scalar_like(self.momentum, self.lr_mul),
            lr_mul=self.lr_mul,
            wd_mul=self.wd_mul,
        )


class UpdateRule(ABC, Generic[ConfigT]):
    """Base of the optimizers: how a stack follows from its gradient.

    Attributes:
        oriented: matrices come with the residual stream as their rows (the shorter side, where
            the residual stream is longer), not as they are stored.
        counters: names of state tensors that count events worth reporting.
        apply: changes the weight in place; `_apply` is the same, compiled where that was asked for.

    Args:
        config: of the rule.
        compile: whether to go through torch.compile.
    """

    oriented: ClassVar[bool] = False
    counters: ClassVar[tuple[str, ...]] = ()
    apply: ClassVar[Callable[..., None]]

    def __init__(self, config: ConfigT, *, compile: bool) -> None:
        self._config = config
        self._apply = compiled(self.apply, compile)

    @abstractmethod
    def new_state(self, weight_NRC: Tensor) -> State:
        """The state before the first update."""

    @abstractmethod
    def step(
        self, weight_NRC: Tensor, gradient_NRC: Tensor, state: State, scalars: StepScalars
    ) -> None:
        """Update weight and state in place, without waiting for the device."""


def scalar_like(value: float, tensor: Tensor) -> Tensor:
    """A 0-dimensional tensor on the same device, of the same type, made without a copy to it."""
    return torch.full((), value, dtype=tensor.dtype, device=tensor.device)


def compiled(function: Callable[..., Any], enabled: bool) -> Callable[..., Any]:
    """The function through torch.compile, one version for each shape and set of constants, or as
    it is.
    """
    if not enabled:
        return function
    torch._dynamo.config.recompile_limit = MOST_VERSIONS
    return torch.compile(function, dynamic=False, fullgraph=True)


def nesterov_direction(gradient: Tensor, momentum_buffer: Tensor, momentum: Tensor) -> Tensor:
    """Update a running mean of the gradient in place; return Nesterov's look-ahead of it."""
    momentum_buffer.lerp_(gradient, 1 - momentum)
    return torch.lerp(gradient, momentum_buffer, momentum)


def shape_gain(rows: int, columns: int) -> float:
    """Step of a tall matrix relative to a wide one: gives both the same RMS for each input."""
    return max(1.0, rows / columns) ** 0.5


def reciprocal_root(mean_square: Tensor) -> Tensor:
    """1 / sqrt of a mean square; 0 where it is 0."""
    return torch.where(
        mean_square > SMALLEST_MEAN_SQUARE,
        mean_square.clamp_min(SMALLEST_MEAN_SQUARE).rsqrt(),
        torch.zeros_like(mean_square),
    )
