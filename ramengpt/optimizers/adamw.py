"""AdamW with the epsilon of its paper (Loshchilov and Hutter, arXiv 1711.05101).

Works on a tensor of any shape. In its default form of decay (plain, scaled by the rate) it is
torch.optim.AdamW.
"""

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ramengpt.config.optimizer import AdamWConfig
from ramengpt.optimizers.rule import DeviceScalars, StepScalars, compiled, scalar_like
from ramengpt.optimizers.weight_decay import decay_share, step_and_decay


class AdamW:
    """Adam whose epsilon stands beside the corrected second moment."""

    oriented: ClassVar[bool] = False
    counters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: AdamWConfig, *, compile: bool) -> None:
        self._config = config
        self._apply = compiled(apply_adamw_step, compile)

    def new_state(self, weight: Tensor) -> dict[str, Tensor]:
        """Running means of the gradient and of its square."""
        return {
            "first_moment": torch.zeros_like(weight),
            "second_moment": torch.zeros_like(weight),
        }

    def step(
        self,
        weight: Tensor,
        gradient: Tensor,
        state: dict[str, Tensor],
        scalars: StepScalars,
    ) -> None:
        """Update weight and moments in place."""
        first, second = bias_corrections(self._config, scalars.update, weight)
        numbers = scalars.on_device()
        self._apply(weight, gradient, state, self._config, first, second, numbers)


class AdamNumbers(Protocol):
    """The numbers of Adam's moments."""

    beta1: float
    beta2: float
    epsilon: float


def bias_corrections(config: AdamNumbers, update: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """What the moments of an update are divided by, since they start at zero."""
    return scalar_like(1 - config.beta1**update, like), scalar_like(1 - config.beta2**update, like)


def adam_direction(
    gradient: Tensor,
    state: dict[str, Tensor],
    config: AdamNumbers,
    first_correction: Tensor,
    second_correction: Tensor,
) -> Tensor:
    """Update both moments in place; return the corrected first over the root of the second."""
    first_moment, second_moment = state["first_moment"], state["second_moment"]
    first_moment.lerp_(gradient, 1 - config.beta1)
    second_moment.mul_(config.beta2).addcmul_(gradient, gradient, value=1 - config.beta2)
    root = (second_moment / second_correction).sqrt_().add_(config.epsilon)
    return first_moment / first_correction / root


def apply_adamw_step(  # noqa: PLR0917
    weight: Tensor,
    gradient: Tensor,
    state: dict[str, Tensor],
    config: AdamWConfig,
    first_correction: Tensor,
    second_correction: Tensor,
    scalars: DeviceScalars,
) -> None:
    """One step, in place."""
    update = adam_direction(gradient, state, config, first_correction, second_correction)
    rate = scalars.learning_rate * scalars.lr_mul
    step_and_decay(weight, update, rate, decay_share(scalars, rate, config), config)
