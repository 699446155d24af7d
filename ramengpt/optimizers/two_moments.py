"""Adam's two moments, which several rules share (Kingma and Ba, arXiv 1412.6980).

Works on a tensor of any shape.
"""

from typing import Protocol

import torch
from torch import Tensor

from ramengpt.optimizers.rule import ConfigT, State, UpdateRule, scalar_like


class TwoMoments(UpdateRule[ConfigT]):
    """Base of the rules that keep running means of the gradient and of its square."""

    def new_state(self, weight: Tensor) -> State:
        """Both means, at zero."""
        return {
            "first_moment": torch.zeros_like(weight),
            "second_moment": torch.zeros_like(weight),
        }


class MomentNumbers(Protocol):
    """The numbers of Adam's moments."""

    beta1: float
    beta2: float
    epsilon: float


def bias_corrections(config: MomentNumbers, update: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """What the moments of an update are divided by, since they start at zero."""
    return scalar_like(1 - config.beta1**update, like), scalar_like(1 - config.beta2**update, like)


def joint_correction(config: MomentNumbers, update: int, like: Tensor) -> Tensor:
    """The same as one factor of the step, where epsilon stands beside the uncorrected root."""
    return scalar_like((1 - config.beta2**update) ** 0.5 / (1 - config.beta1**update), like)


def update_moments(gradient: Tensor, state: State, config: MomentNumbers) -> None:
    """Update both means in place."""
    state["first_moment"].lerp_(gradient, 1 - config.beta1)
    square_share = 1 - config.beta2
    state["second_moment"].mul_(config.beta2).addcmul_(gradient, gradient, value=square_share)


def corrected_root(state: State, config: MomentNumbers, second_correction: Tensor) -> Tensor:
    """The root of the corrected second moment, plus epsilon."""
    return (state["second_moment"] / second_correction).sqrt_().add_(config.epsilon)


def adam_direction(
    gradient: Tensor,
    state: State,
    config: MomentNumbers,
    first_correction: Tensor,
    second_correction: Tensor,
) -> Tensor:
    """Update both moments in place; return the corrected first over the root of the second."""
    update_moments(gradient, state, config)
    root = corrected_root(state, config, second_correction)
    return state["first_moment"] / first_correction / root
