"""AdEMAMix: AdamW with a second, slow mean of the gradient (Pagliardini et al., arXiv 2409.03137).

Works on a tensor of any shape.
"""

import math

import torch
from torch import Tensor

from ramengpt.config.optimizer import AdEMAMixConfig
from ramengpt.optimizers.rule import DeviceScalars, State, StepScalars, scalar_like
from ramengpt.optimizers.two_moments import (
    TwoMoments,
    bias_corrections,
    corrected_root,
    update_moments,
)
from ramengpt.optimizers.weight_decay import decay_share, step_and_decay


def ramped_decay(start: float, end: float, ramp: float) -> float:
    """A decay on the way from one to another, linear in the half-life.

    Args:
        start: at ramp 0, above 0.
        end: at ramp 1.
        ramp: from 0 to 1.
    """
    if ramp == 1:
        return end
    half_life = (1 - ramp) / math.log(start) + ramp / math.log(end)
    return math.exp(1 / half_life)


def apply_ademamix_step(
    weight: Tensor,
    gradient: Tensor,
    state: State,
    config: AdEMAMixConfig,
    *,
    first_correction: Tensor,
    second_correction: Tensor,
    alpha: Tensor,
    slow_share: Tensor,
    scalars: DeviceScalars,
) -> None:
    """One step, in place; `slow_share` is that of the gradient in the slow mean."""
    update_moments(gradient, state, config)
    state["slow_moment"].lerp_(gradient, slow_share)
    root = corrected_root(state, config, second_correction)
    update = (state["first_moment"] / first_correction + alpha * state["slow_moment"]) / root
    rate = scalars.learning_rate * scalars.lr_mul
    step_and_decay(weight, update, rate, decay_share(scalars, rate, config), config)


class AdEMAMix(TwoMoments[AdEMAMixConfig]):
    """Step along (m1 + alpha m2) / (sqrt(v) + epsilon): m2 is slow, and m1 and v are corrected."""

    apply = staticmethod(apply_ademamix_step)

    def new_state(self, weight: Tensor) -> State:
        """Fast and slow running means of the gradient, and that of its square."""
        return super().new_state(weight) | {"slow_moment": torch.zeros_like(weight)}

    def step(self, weight: Tensor, gradient: Tensor, state: State, scalars: StepScalars) -> None:
        """Update weight and moments in place."""
        config = self._config
        ramp = min(scalars.progress / config.ramp_fraction, 1.0) if config.ramp_fraction else 1.0
        first, second = bias_corrections(config, scalars.update, weight)
        self._apply(
            weight,
            gradient,
            state,
            config,
            first_correction=first,
            second_correction=second,
            alpha=scalar_like(ramp * config.alpha, weight),
            slow_share=scalar_like(1 - ramped_decay(config.beta1, config.beta3, ramp), weight),
            scalars=scalars.on_device(),
        )
