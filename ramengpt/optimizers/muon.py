"""Muon: momentum with all its singular values brought to 1 (Jordan et al., 2024).

Shapes: N matrices of R rows and C columns, stored (out, in).
"""

from typing import ClassVar

import torch
from torch import Tensor

from ramengpt.config.optimizer import DecayConfig, OrthogonalisedConfig
from ramengpt.optimizers.polar_coefficients import polynomials
from ramengpt.optimizers.polar_express import apply_polynomials, normalised_wide, restored
from ramengpt.optimizers.rule import (
    DeviceScalars,
    StepScalars,
    compiled,
    nesterov_direction,
    shape_gain,
)
from ramengpt.optimizers.weight_decay import decay_share, step_and_decay


class Muon:
    """Nesterov momentum, orthogonalised by the polynomials of the config.

    With those of Newton-Schulz, plain decay and a constant momentum it is Keller Jordan's, and
    torch.optim.Muon.
    """

    oriented: ClassVar[bool] = False
    counters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: OrthogonalisedConfig, *, compile: bool) -> None:
        self._decay: DecayConfig = config
        self._coefficients, self._headroom = polynomials(config.polar)
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
        self._apply(weight_NRC, direction_NRC, self._decay, numbers)


def prepared_direction(
    gradient_NRC: Tensor,
    momentum_NRC: Tensor,
    momentum: Tensor,
    headroom: float,
    dtype: torch.dtype,
) -> Tensor:
    """Update the momentum in place; return the direction as the polynomials take it."""
    direction_NRC = nesterov_direction(gradient_NRC, momentum_NRC, momentum)
    return normalised_wide(direction_NRC, headroom, dtype)


def apply_update(
    weight_NRC: Tensor, update_NRC: Tensor, form: DecayConfig, scalars: DeviceScalars
) -> None:
    """Step against the update and decay, in place."""
    gain = shape_gain(weight_NRC.size(-2), weight_NRC.size(-1))
    rate_N11 = scalars.learning_rate * gain * scalars.lr_mul
    share_N11 = decay_share(scalars, rate_N11, form)
    step_and_decay(weight_NRC, update_NRC.to(weight_NRC.dtype), rate_N11, share_N11, form)
