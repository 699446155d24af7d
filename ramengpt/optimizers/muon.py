"""Muon: momentum with all its singular values brought to 1 (Jordan et al., 2024).

Shapes: N matrices of R rows and C columns, stored (out, in).
"""

from typing import ClassVar

import torch
from torch import Tensor

from ramengpt.config.optimizer import MuonConfig, NorMuonConfig
from ramengpt.optimizers.polar_coefficients import polar_express_coefficients
from ramengpt.optimizers.polar_express import apply_polynomials, normalised_wide, restored
from ramengpt.optimizers.rule import (
    DeviceScalars,
    StepScalars,
    compiled,
    nesterov_direction,
    shape_gain,
)


class Muon:
    """The usual baseline: Nesterov momentum, Polar Express, cautious weight decay."""

    oriented: ClassVar[bool] = False
    counters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: MuonConfig | NorMuonConfig, *, compile: bool) -> None:
        polar = config.polar
        self._headroom = polar.safety
        self._coefficients = polar_express_coefficients(
            polar.steps, polar.lower_bound, polar.cushion, polar.safety
        )
        self._prepare = compiled(prepared_direction, compile)
        self._apply = compiled(apply_update, compile)

    def new_state(self, weight_NRC: Tensor) -> dict[str, Tensor]:
        """The running mean of the gradient."""
        return {"momentum": torch.zeros_like(weight_NRC)}

    def orthogonal_direction(
        self, gradient_NRC: Tensor, state: dict[str, Tensor], momentum: Tensor
    ) -> Tensor:
        """Update the momentum; return its orthogonal factor, in bfloat16 on a GPU."""
        dtype = torch.bfloat16 if gradient_NRC.is_cuda else gradient_NRC.dtype
        wide_NSB = self._prepare(gradient_NRC, state["momentum"], momentum, self._headroom, dtype)
        return restored(apply_polynomials(wide_NSB, self._coefficients), gradient_NRC)

    def step(
        self,
        weight_NRC: Tensor,
        gradient_NRC: Tensor,
        state: dict[str, Tensor],
        scalars: StepScalars,
    ) -> None:
        """Update weight and momentum in place."""
        numbers = scalars.on_device()
        direction_NRC = self.orthogonal_direction(gradient_NRC, state, numbers.momentum)
        self._apply(weight_NRC, direction_NRC, numbers)


def prepared_direction(
    gradient_NRC: Tensor,
    momentum_NRC: Tensor,
    momentum: Tensor,
    headroom: float,
    dtype: torch.dtype,
) -> Tensor:
    """Update the momentum in place; return the direction as Polar Express takes it."""
    direction_NRC = nesterov_direction(gradient_NRC, momentum_NRC, momentum)
    return normalised_wide(direction_NRC, headroom, dtype)


def apply_update(weight_NRC: Tensor, update_NRC: Tensor, scalars: DeviceScalars) -> None:
    """Step against the update, and decay the weights that it shrinks, in place.

    The decay of a step is learning_rate^2 * weight_decay, so that it follows the schedule twice
    (modded-nanogpt, record 43). Which weights decay is decided before the step; an update of 0
    counts as one that shrinks.
    """
    gain = shape_gain(weight_NRC.size(-2), weight_NRC.size(-1))
    rate_N11 = scalars.learning_rate * gain * scalars.lr_mul
    decay_N11 = rate_N11 * scalars.learning_rate * scalars.weight_decay * scalars.wd_mul
    update_NRC = update_NRC.to(weight_NRC.dtype)
    decayed_NRC = torch.where(update_NRC * weight_NRC >= 0, weight_NRC, 0)
    weight_NRC.sub_(rate_N11 * update_NRC + decay_N11 * decayed_NRC)


RULE = Muon
