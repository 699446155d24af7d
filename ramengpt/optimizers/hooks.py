"""Hooks: what acts on all weights, whatever their optimizers, around a step and for evaluation.

Hooks see one list of tensors, the parameters. Their state, one tensor per parameter and name, is
part of a checkpoint, which is taken after a step.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ramengpt.config.hooks import (
    EmaNesterovConfig,
    EvaluationAverageConfig,
    HooksConfig,
    OuterStepConfig,
)


class HookSettings(Protocol):
    """What a step's plan says to the hooks."""

    @property
    def step(self) -> int:
        """Number of the step, from 0."""

    @property
    def run_steps(self) -> int:
        """Of the whole run."""

    @property
    def learning_rate_multiplier(self) -> float:
        """Multiplies every group's learning rate."""


class Hook:
    """Does nothing; its subclasses override what they need.

    Attributes:
        name: unique.
        state: for each name, one tensor per parameter.
    """

    name: ClassVar[str]

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = list(weights)
        self.state: dict[str, list[Tensor]] = {}

    def before_forward(self, settings: HookSettings) -> None:
        """Change the weights at which the gradient is taken, in place."""

    def after_step(self, settings: HookSettings) -> None:
        """Change the weights after all optimizers, in place."""

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Use other weights inside the block."""
        yield


class OuterStep(Hook):
    """Lookahead (arXiv 1907.08610), or with momentum Snoo (arXiv 2510.15830).

    After `every_steps` steps from s to t: u <- momentum u + learning_rate (s - t), and both become
    s - momentum u - learning_rate (s - t). Steps after the last whole cycle stay as they are.
    """

    name: ClassVar[str] = "outer_step"

    def __init__(self, config: OuterStepConfig, weights: Sequence[Tensor]) -> None:
        super().__init__(weights)
        self._config = config
        self.state = {
            "slow_weights": [weight.clone() for weight in weights],
            "momentum": [torch.zeros_like(weight) for weight in weights],
        }

    def after_step(self, settings: HookSettings) -> None:
        """Take an outer step at the end of a cycle."""
        config = self._config
        if (settings.step + 1) % config.every_steps:
            return
        slow, momentum = self.state["slow_weights"], self.state["momentum"]
        change = torch._foreach_sub(slow, self._weights)
        torch._foreach_mul_(momentum, config.momentum)
        torch._foreach_add_(momentum, change, alpha=config.learning_rate)
        # From the fast weights, so that learning_rate 1 without momentum changes no bit.
        torch._foreach_add_(self._weights, change, alpha=1 - config.learning_rate)
        torch._foreach_sub_(self._weights, momentum, alpha=config.momentum)
        torch._foreach_copy_(slow, self._weights)


class EmaNesterov(Hook):
    """Nesterov's look-ahead along the EMA of the weights' updates (arXiv 2605.25395).

    The gradient is taken at w + b m and the optimizers step from there; m <- decay m +
    (1 - decay) (w_next - w), pushes included. A constant step is thus 1 / (1 - b) times as fast,
    so b follows the learning rate down.
    """

    name: ClassVar[str] = "ema_nesterov"

    def __init__(self, config: EmaNesterovConfig, weights: Sequence[Tensor]) -> None:
        super().__init__(weights)
        self._config = config
        self._before = [torch.empty_like(weight) for weight in weights]
        self.state = {"motion": [torch.zeros_like(weight) for weight in weights]}

    def before_forward(self, settings: HookSettings) -> None:
        """Push the weights, between the start and the end."""
        config = self._config
        torch._foreach_copy_(self._before, self._weights)
        if config.start_fraction <= settings.step / settings.run_steps < config.end_fraction:
            strength = config.strength * settings.learning_rate_multiplier
            torch._foreach_add_(self._weights, self.state["motion"], alpha=strength)

    def after_step(self, settings: HookSettings) -> None:
        """Update the EMA."""
        moved = torch._foreach_sub(self._weights, self._before)
        torch._foreach_lerp_(self.state["motion"], moved, 1 - self._config.decay)


class EvaluationAverage(Hook):
    """A moving average over the end of the run, mixed into the weights that are evaluated.

    Training does not see it. Before the start the average is the weights themselves. Source:
    modded-nanogpt, track 3, pull request 45.
    """

    name: ClassVar[str] = "evaluation_average"

    def __init__(self, config: EvaluationAverageConfig, weights: Sequence[Tensor]) -> None:
        super().__init__(weights)
        self._config = config
        self.state = {"average": [weight.clone() for weight in weights]}

    def after_step(self, settings: HookSettings) -> None:
        """Update the average."""
        average, steps = self.state["average"], settings.run_steps
        if settings.step < round(self._config.start_fraction * steps):
            torch._foreach_copy_(average, self._weights)
        else:
            horizon_steps = max(self._config.horizon_fraction * steps, 1.0)
            torch._foreach_lerp_(average, self._weights, 1 / horizon_steps)

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Mix the average in, and restore the exact weights."""
        with torch.no_grad():
            current = [weight.clone() for weight in self._weights]
            torch._foreach_lerp_(self._weights, self.state["average"], self._config.share)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, current)


def make_hooks(config: HooksConfig, weights: Sequence[Tensor]) -> list[Hook]:
    """The hooks that are on, in the order in which they follow a step.

    Args:
        config: of the run.
        weights: all parameters, detached, at the start of the run.
    """
    hooks: list[Hook] = []
    if config.outer_step.every_steps > 0:
        hooks.append(OuterStep(config.outer_step, weights))
    if config.ema_nesterov.strength > 0:
        hooks.append(EmaNesterov(config.ema_nesterov, weights))
    if config.evaluation_average.share > 0:
        hooks.append(EvaluationAverage(config.evaluation_average, weights))
    return hooks
