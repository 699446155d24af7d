"""Hyperball: steps of a constant angle on a sphere of constant norm (arXiv 2606.16899).

Shapes: N matrices of R rows and C columns, stored (out, in).
"""

import torch
from torch import Tensor

from ramengpt.config.optimizer import (
    AdamHyperballConfig,
    HyperballConfig,
    MuonHyperballConfig,
)
from ramengpt.optimizers.muon import OrthogonalMomentum
from ramengpt.optimizers.rule import SMALLEST_NORM, DeviceScalars, State, StepScalars, compiled
from ramengpt.optimizers.two_moments import TwoMoments, adam_direction, bias_corrections


def radii(weight_NRC: Tensor, config: HyperballConfig) -> State:
    """Each matrix's norm at the start, and whether it is free below it.

    A matrix that starts at zero has none; it grows to `zero_init_gain` times the norm of an
    orthogonal matrix, and stays there.
    """
    norm_N11 = torch.linalg.vector_norm(weight_NRC, dim=(-2, -1), keepdim=True)
    grows_N11 = norm_N11 == 0
    largest = config.zero_init_gain * min(weight_NRC.shape[-2:]) ** 0.5
    return {"radius": torch.where(grows_N11, largest, norm_N11), "grows": grows_N11}


def step_length(state: State, scalars: DeviceScalars) -> Tensor:
    """Rate x radius; not compiled: within the step PyTorch 2.13 cannot compile it for CPUs."""
    return scalars.learning_rate * scalars.lr_mul * state["radius"]


def apply_spherical_step(
    weight_NRC: Tensor, direction_NRC: Tensor, state: State, length_N11: Tensor
) -> None:
    """W <- r (W - l U / |U|) / |W - l U / |U||, with radius r and length l, in place."""
    radius_N11, grows_N11 = state["radius"], state["grows"]
    direction_NRC = direction_NRC.to(weight_NRC.dtype)
    norm_N11 = torch.linalg.vector_norm(direction_NRC, dim=(-2, -1), keepdim=True)
    moved_NRC = weight_NRC - length_N11 / norm_N11.clamp_min(SMALLEST_NORM) * direction_NRC
    moved_N11 = torch.linalg.vector_norm(moved_NRC, dim=(-2, -1), keepdim=True)
    scale_N11 = radius_N11 / moved_N11.clamp_min(SMALLEST_NORM)
    scale_N11 = torch.where(grows_N11, scale_N11.clamp_max(1.0), scale_N11)
    weight_NRC.copy_(moved_NRC * scale_N11)


class MuonHyperball(OrthogonalMomentum[MuonHyperballConfig]):
    """Muon's direction."""

    apply = staticmethod(apply_spherical_step)

    def new_state(self, weight_NRC: Tensor) -> State:
        """The running mean of the gradient, and the radii."""
        return super().new_state(weight_NRC) | radii(weight_NRC, self._config)

    def move(
        self, weight_NRC: Tensor, orthogonal_NRC: Tensor, state: State, scalars: DeviceScalars
    ) -> None:
        """Turn the weight by an orthogonal factor, in place."""
        self._apply(weight_NRC, orthogonal_NRC, state, step_length(state, scalars))


class AdamHyperball(TwoMoments[AdamHyperballConfig]):
    """Adam's direction."""

    apply = staticmethod(apply_spherical_step)

    def __init__(self, config: AdamHyperballConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self._direction = compiled(adam_direction, compile)

    def new_state(self, weight_NRC: Tensor) -> State:
        """Running means of the gradient and of its square, and the radii."""
        return super().new_state(weight_NRC) | radii(weight_NRC, self._config)

    def step(
        self, weight_NRC: Tensor, gradient_NRC: Tensor, state: State, scalars: StepScalars
    ) -> None:
        """Update weight and moments in place."""
        corrections = bias_corrections(self._config, scalars.update, weight_NRC)
        direction_NRC = self._direction(gradient_NRC, state, self._config, *corrections)
        length_N11 = step_length(state, scalars.on_device())
        self._apply(weight_NRC, direction_NRC, state, length_N11)
