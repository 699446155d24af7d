"""NorMuon: Muon whose neurons have equal step sizes over time (arXiv 2510.05491).

Shapes: N matrices of R rows and C columns, stored (out, in).
"""

import torch
from torch import Tensor

from ramengpt.config.optimizer import NorMuonConfig
from ramengpt.optimizers.muon import Muon, apply_update
from ramengpt.optimizers.rule import DeviceScalars, StepScalars, compiled

SMALLEST_SECOND_MOMENT = 1e-10


class NorMuon(Muon):
    """Muon with a second moment for each row, or for each column of a wide matrix.

    The vectors of an orthogonal factor along its shorter side all have length 1, so only the
    longer side says anything about neurons. No bias correction: a common factor cancels, since the
    update keeps the norm of the orthogonal factor.
    """

    def __init__(self, config: NorMuonConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self._config = config
        self._normalise_and_apply = compiled(apply_normalised_update, compile)

    def new_state(self, weight_NRC: Tensor) -> dict[str, Tensor]:
        """The running means of the gradient and of the squared orthogonal factor."""
        state = super().new_state(weight_NRC)
        second_moment = weight_NRC.new_zeros(_second_moment_shape(weight_NRC))
        return state | {"second_moment": second_moment}

    def step(
        self,
        weight_NRC: Tensor,
        gradient_NRC: Tensor,
        state: dict[str, Tensor],
        scalars: StepScalars,
    ) -> None:
        """Update weight, momentum and second moment in place."""
        numbers = scalars.on_device()
        orthogonal_NRC = self.orthogonal_direction(gradient_NRC, state, numbers.momentum)
        self._normalise_and_apply(
            weight_NRC, orthogonal_NRC, state["second_moment"], self._config, numbers
        )


def _second_moment_shape(weight_NRC: Tensor) -> tuple[int, int, int]:
    """One number per row, or per column if there are more of those."""
    matrices, rows, columns = weight_NRC.shape
    return (matrices, rows, 1) if rows >= columns else (matrices, 1, columns)


def normalised_update(orthogonal_NRC: Tensor, second_moment: Tensor, beta2: float) -> Tensor:
    """Divide by the root of the second moment, updated in place, and restore the norm.

    Args:
        orthogonal_NRC: orthogonal factors.
        second_moment: [N, R, 1] or [N, 1, C].
        beta2: its decay.
    Returns:
        [N, R, C] of the second moment's type.
    """
    orthogonal_NRC = orthogonal_NRC.to(second_moment.dtype)
    averaged_dim = -1 if second_moment.size(-1) == 1 else -2
    mean_square = orthogonal_NRC.square().mean(dim=averaged_dim, keepdim=True)
    second_moment.lerp_(mean_square, 1 - beta2)
    scaled_NRC = orthogonal_NRC * second_moment.clamp_min(SMALLEST_SECOND_MOMENT).rsqrt()
    norm_N11 = torch.linalg.vector_norm(orthogonal_NRC, dim=(-2, -1), keepdim=True)
    scaled_norm_N11 = torch.linalg.vector_norm(scaled_NRC, dim=(-2, -1), keepdim=True)
    return scaled_NRC * (norm_N11 / scaled_norm_N11.clamp_min(SMALLEST_SECOND_MOMENT))


def apply_normalised_update(
    weight_NRC: Tensor,
    orthogonal_NRC: Tensor,
    second_moment: Tensor,
    config: NorMuonConfig,
    scalars: DeviceScalars,
) -> None:
    """Normalise the neurons, then step and decay as Muon does, in place."""
    update_NRC = normalised_update(orthogonal_NRC, second_moment, config.beta2)
    apply_update(weight_NRC, update_NRC, config, scalars)
