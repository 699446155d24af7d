"""Hyperball: steps of a constant angle on a sphere of constant norm (arXiv 2606.16899).

Shapes: N matrices of R rows and C columns, stored (out, in).
"""

from typing import ClassVar

import torch
from torch import Tensor

from ramengpt.config.optimizer import AdamHyperballConfig, HyperballConfig, MuonHyperballConfig
from ramengpt.optimizers.adamw import adam_direction, bias_corrections
from ramengpt.optimizers.muon import OrthogonalMomentum
from ramengpt.optimizers.rule import DeviceScalars, StepScalars, compiled

SMALLEST_NORM = 1e-18


class MuonHyperball(OrthogonalMomentum):
    """Muon's direction."""

    def __init__(self, config: MuonHyperballConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self._config = config
        self._apply = compiled(apply_spherical_step, compile)

    def new_state(self, weight_NRC: Tensor) -> dict[str, Tensor]:
        """The running mean of the gradient, and the radii."""
        return super().new_state(weight_NRC) | radii(weight_NRC, self._config)

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
        self._apply(weight_NRC, direction_NRC.to(weight_NRC.dtype), state, numbers)


class AdamHyperball:
    """Adam's direction."""

    oriented: ClassVar[bool] = False
    counters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: AdamHyperballConfig, *, compile: bool) -> None:
        self._config = config
        self._direction = compiled(adam_direction, compile)
        self._apply = compiled(apply_spherical_step, compile)

    def new_state(self, weight_NRC: Tensor) -> dict[str, Tensor]:
        """Running means of the gradient and of its square, and the radii."""
        return {
            "first_moment": torch.zeros_like(weight_NRC),
            "second_moment": torch.zeros_like(weight_NRC),
        } | radii(weight_NRC, self._config)

    def step(
        self,
        weight_NRC: Tensor,
        gradient_NRC: Tensor,
        state: dict[str, Tensor],
        scalars: StepScalars,
    ) -> None:
        """Update weight and moments in place."""
        corrections = bias_corrections(self._config, scalars.update, weight_NRC)
        direction_NRC = self._direction(gradient_NRC, state, self._config, *corrections)
        self._apply(weight_NRC, direction_NRC, state, scalars.on_device())


def radii(weight_NRC: Tensor, config: HyperballConfig) -> dict[str, Tensor]:
    """Each matrix's norm at the start, and whether it is free below it.

    A matrix that starts at zero has none; it grows to `zero_init_gain` times the norm of an
    orthogonal matrix, and stays there.
    """
    norm_N11 = torch.linalg.vector_norm(weight_NRC, dim=(-2, -1), keepdim=True)
    grows_N11 = norm_N11 == 0
    largest = config.zero_init_gain * min(weight_NRC.shape[-2:]) ** 0.5
    return {"radius": torch.where(grows_N11, largest, norm_N11), "grows": grows_N11}


def apply_spherical_step(
    weight_NRC: Tensor, direction_NRC: Tensor, state: dict[str, Tensor], scalars: DeviceScalars
) -> None:
    """W <- r (W - rate r U / |U|) / |W - rate r U / |U||, with radius r, in place."""
    radius_N11, grows_N11 = state["radius"], state["grows"]
    norm_N11 = torch.linalg.vector_norm(direction_NRC, dim=(-2, -1), keepdim=True)
    length_N11 = scalars.learning_rate * scalars.lr_mul * radius_N11
    weight_NRC.sub_(length_N11 / norm_N11.clamp_min(SMALLEST_NORM) * direction_NRC)
    moved_N11 = torch.linalg.vector_norm(weight_NRC, dim=(-2, -1), keepdim=True)
    scale_N11 = radius_N11 / moved_N11.clamp_min(SMALLEST_NORM)
    weight_NRC.mul_(torch.where(grows_N11, scale_N11.clamp_max(1.0), scale_N11))
