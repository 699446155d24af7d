"""LITE: Muon with larger steps along flat directions (Zhu et al., arXiv 2602.22681).

Shapes: N matrices of R rows and C columns, stored (out, in).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ramengpt.config.optimizer import LiteConfig
from ramengpt.optimizers.muon import OrthogonalMomentum
from ramengpt.optimizers.rule import (
    SMALLEST_NORM,
    DeviceScalars,
    State,
    StepScalars,
    compiled,
    scalar_like,
)
from ramengpt.optimizers.weight_decay import decay_share, remove

THRESHOLD_STEP = 0.05
"""Relative change of the threshold in one step."""


class Ramped(NamedTuple):
    """What grows over the run: how flat directions are damped, and how much further they step."""

    flat_damping: Tensor
    flat_gain: Tensor


def with_sharp_part(momentum_NRC: Tensor, orthogonal_NRC: Tensor, threshold_N11: Tensor) -> Tensor:
    """M / t - sgn M; its orthogonal factor keeps directions with a singular value above t, and
    turns the others around.

    Args:
        momentum_NRC: M.
        orthogonal_NRC: sgn M, its orthogonal factor.
        threshold_N11: t, relative to the norm of M.
    """
    norm_N11 = torch.linalg.vector_norm(momentum_NRC, dim=(-2, -1), keepdim=True)
    scale_N11 = (threshold_N11 * norm_N11).clamp_min(SMALLEST_NORM).reciprocal()
    return momentum_NRC * scale_N11 - orthogonal_NRC.to(momentum_NRC.dtype)


def adapt_threshold(threshold_N11: Tensor, sharp_NRC: Tensor, sharp_share: float) -> None:
    """Move the threshold towards the wanted share of sharp directions, in place.

    The square of the norm of P counts them: a whole number, but for roundoff.
    """
    shorter = min(sharp_NRC.shape[-2:])
    wanted = min(int(sharp_share * shorter) + 1, max(shorter - 1, 1))
    count_N11 = sharp_NRC.square().sum(dim=(-2, -1), keepdim=True)
    change_N11 = torch.where(count_N11 > wanted + 0.5, 1 + THRESHOLD_STEP, 1 - THRESHOLD_STEP)
    threshold_N11.mul_(change_N11).clamp_(max=1.0)


def flat_part(matrix_NRC: Tensor, sharp_NRC: Tensor) -> Tensor:
    """X F, with F = I - P^T P."""
    if sharp_NRC.size(-2) > sharp_NRC.size(-1):
        return matrix_NRC - matrix_NRC @ (sharp_NRC.mT @ sharp_NRC)
    return matrix_NRC - (matrix_NRC @ sharp_NRC.mT) @ sharp_NRC


def apply_lite_step(
    weight_NRC: Tensor,
    orthogonal_NRC: Tensor,
    turned_NRC: Tensor,
    damping_NRC: Tensor,
    state: State,
    *,
    config: LiteConfig,
    ramped: Ramped,
    scalars: DeviceScalars,
) -> None:
    """One step, in place, and the threshold of the next one.

    Args:
        weight_NRC: W.
        orthogonal_NRC: sgn M.
        turned_NRC: the same with the flat directions turned around.
        damping_NRC: sgn G.
        state: has the threshold.
        config: of the rule.
        ramped: of the step.
        scalars: of the step.
    """
    dtype = weight_NRC.dtype
    orthogonal_NRC, damping_NRC = orthogonal_NRC.to(dtype), damping_NRC.to(dtype)
    sharp_NRC = (orthogonal_NRC + turned_NRC.to(dtype)) / 2
    adapt_threshold(state["threshold"], sharp_NRC, config.sharp_share)
    sharp_damping = config.sharp_damping
    update_NRC = orthogonal_NRC + sharp_damping * damping_NRC
    update_NRC += (ramped.flat_damping - sharp_damping) * flat_part(damping_NRC, sharp_NRC)
    further = ramped.flat_gain - 1
    update_NRC += further * flat_part(update_NRC, sharp_NRC)
    decayed_NRC = weight_NRC + further * flat_part(weight_NRC, sharp_NRC)

    rate_N11 = scalars.learning_rate * scalars.lr_mul
    length = config.update_rms * max(weight_NRC.shape[-2:]) ** 0.5
    share_N11 = decay_share(scalars, rate_N11, config)
    remove(weight_NRC, update_NRC, rate_N11 * length, decayed_NRC, share_N11, config)


class Lite(OrthogonalMomentum[LiteConfig]):
    """U = sgn M + b sgn G + (c - b) sgn(G) F, then U <- U + (d - 1) U F; decay likewise along F.

    M is Nesterov's direction, G the gradient, sgn the orthogonal factor, and F = I - P^T P projects
    on the flat directions, where M is small. P = (sgn M + sgn(M / t - sgn M)) / 2
    keeps singular values above t, which is adapted until they are the wanted share.
    G's part dampens as a Hessian would: b (`sharp_damping`) is slightly negative, while c
    (`flat_damping`) and d (`flat_gain`) grow over the run from b and 1. The authors also let the
    rate along flat directions end at the floor of the others.
    """

    apply = staticmethod(apply_lite_step)

    def __init__(self, config: LiteConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self._turn = compiled(with_sharp_part, compile)

    def new_state(self, weight_NRC: Tensor) -> State:
        """The running mean of the gradient, and each matrix's threshold over the norm of M."""
        start = min(weight_NRC.shape[-2:]) ** -0.5
        threshold_N11 = torch.full_like(weight_NRC[:, :1, :1], start)
        return super().new_state(weight_NRC) | {"threshold": threshold_N11}

    def step(
        self, weight_NRC: Tensor, gradient_NRC: Tensor, state: State, scalars: StepScalars
    ) -> None:
        """Update weight, momentum and thresholds in place."""
        numbers, config = scalars.on_device(), self._config
        direction_NRC = self._nesterov(gradient_NRC, state["momentum"], numbers.momentum)
        orthogonal_NRC = self.orthogonalised(direction_NRC)
        turned_NRC = self._turn(direction_NRC, orthogonal_NRC, state["threshold"])
        self._apply(
            weight_NRC,
            orthogonal_NRC,
            self.orthogonalised(turned_NRC),
            self.orthogonalised(gradient_NRC),
            state,
            config=config,
            ramped=ramped(config, scalars.progress, weight_NRC),
            scalars=numbers,
        )


def ramped(config: LiteConfig, progress: float, like: Tensor) -> Ramped:
    """Damping and gain along flat directions after a share of the run."""
    share = min(progress / config.ramp_fraction, 1.0) if config.ramp_fraction else 1.0
    damping = config.sharp_damping + share * (config.flat_damping - config.sharp_damping)
    return Ramped(
        flat_damping=scalar_like(damping, like),
        flat_gain=scalar_like(1 + share * (config.flat_gain - 1), like),
    )
