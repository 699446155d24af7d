"""Muon: momentum with all its singular values brought to 1 (Jordan et al., 2024).

Shapes: N matrices of R rows and C columns, stored (out, in).
"""

from collections.abc import Callable
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from ramengpt.config.optimizer import OrthogonalisedConfig, PolarRuleConfig
from ramengpt.kernels.support import runs_kernels
from ramengpt.optimizers.polar_coefficients import polynomials
from ramengpt.optimizers.polar_express import (
    apply_polynomials,
    normalised_wide,
    polar_express,
    restored,
)
from ramengpt.optimizers.rule import (
    DeviceScalars,
    State,
    StepScalars,
    UpdateRule,
    compiled,
    nesterov_direction,
    reciprocal_root,
    shape_gain,
)
from ramengpt.optimizers.weight_decay import decay_share, step_and_decay

PolarConfigT = TypeVar("PolarConfigT", bound=PolarRuleConfig)


def product_dtype(matrix: Tensor) -> torch.dtype:
    """What matrices are orthogonalised in."""
    return torch.bfloat16 if runs_kernels(matrix) else matrix.dtype


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
    weight_NRC: Tensor,
    update_NRC: Tensor,
    state: State,
    form: OrthogonalisedConfig,
    scalars: DeviceScalars,
) -> None:
    """Step against the update and decay, in place; the state has no part in it."""
    gain = shape_gain(weight_NRC.size(-2), weight_NRC.size(-1))
    update_NRC = update_NRC.to(weight_NRC.dtype)
    if form.row_floor > 0:
        update_NRC = with_row_floor(update_NRC, weight_NRC, form.row_floor / gain)
    rate_N11 = scalars.learning_rate * gain * scalars.lr_mul
    share_N11 = decay_share(scalars, rate_N11, form)
    step_and_decay(weight_NRC, update_NRC, rate_N11, share_N11, form)


def with_row_floor(update_NRC: Tensor, weight_NRC: Tensor, floor: float) -> Tensor:
    """Stretch the update's rows that are shorter than `floor` times the weight's.

    So that no row stops turning; rows of zeros stay zero. Source: modded-nanogpt, track 3.
    """
    mean_square_NR1 = update_NRC.square().mean(dim=-1, keepdim=True)
    weight_rms_NR1 = weight_NRC.square().mean(dim=-1, keepdim=True).sqrt()
    stretch_NR1 = floor * weight_rms_NR1 * reciprocal_root(mean_square_NR1)
    return update_NRC * stretch_NR1.clamp_min(1.0)


class OrthogonalMomentum(UpdateRule[PolarConfigT]):
    """Base of the rules that step along the orthogonal factor of a momentum.

    Attributes:
        prepare: (gradient, momentum, its decay, headroom, dtype) -> what the polynomials take.
    """

    prepare: ClassVar[Callable[..., Tensor]] = staticmethod(prepared_direction)

    def __init__(self, config: PolarConfigT, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self._coefficients, self._headroom = polynomials(config.polar)
        self._prepare = compiled(self.prepare, compile)
        self._nesterov = compiled(nesterov_direction, compile)

    def new_state(self, weight_NRC: Tensor) -> State:
        """The running mean of the gradient."""
        return {"momentum": torch.zeros_like(weight_NRC)}

    def step(
        self, weight_NRC: Tensor, gradient_NRC: Tensor, state: State, scalars: StepScalars
    ) -> None:
        """Update weight and state in place."""
        numbers, dtype = scalars.on_device(), product_dtype(gradient_NRC)
        wide_NSB = self._prepare(
            gradient_NRC, state["momentum"], numbers.momentum, self._headroom, dtype
        )
        orthogonal_NRC = restored(apply_polynomials(wide_NSB, self._coefficients), gradient_NRC)
        self.move(weight_NRC, orthogonal_NRC, state, numbers)

    def move(
        self, weight_NRC: Tensor, orthogonal_NRC: Tensor, state: State, scalars: DeviceScalars
    ) -> None:
        """Change the weight by an orthogonal factor, in place."""
        self._apply(weight_NRC, orthogonal_NRC, state, self._config, scalars)

    def orthogonalised(self, direction_NRC: Tensor) -> Tensor:
        """The orthogonal factor of a direction, in bfloat16 on a GPU."""
        dtype = product_dtype(direction_NRC)
        return polar_express(direction_NRC, self._coefficients, self._headroom, dtype)


class Muon(OrthogonalMomentum[OrthogonalisedConfig]):
    """Nesterov momentum, orthogonalised by the polynomials of the config.

    With those of Newton-Schulz, plain decay and a constant momentum it is Keller Jordan's, and
    torch.optim.Muon.
    """

    apply = staticmethod(apply_update)
