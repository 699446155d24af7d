"""NorMuon: Muon whose neurons have equal step sizes over time (arXiv 2510.05491).

Shapes: N matrices of R rows and C columns, stored (out, in).
"""

import torch
from torch import Tensor

from ramengpt.config.optimizer import NorMuonConfig
from ramengpt.optimizers.muon import OrthogonalMomentum, apply_update
from ramengpt.optimizers.rule import DeviceScalars, State

SMALLEST_SECOND_MOMENT = 1e-10


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
    state: State,
    config: NorMuonConfig,
    scalars: DeviceScalars,
) -> None:
    """Normalise the neurons, then step and decay as Muon does, in place."""
    update_NRC = normalised_update(orthogonal_NRC, state["second_moment"], config.beta2)
    apply_update(weight_NRC, update_NRC, state, config, scalars)


class NorMuon(OrthogonalMomentum[NorMuonConfig]):
    """Muon with a second moment for each row, or for each column of a wide matrix.

    The vectors of an orthogonal factor along its shorter side all have length 1, so only the
    longer side says anything about neurons. No bias correction: a common factor cancels, since the
    update keeps the norm of the orthogonal factor.
    """

    apply = staticmethod(apply_normalised_update)

    def new_state(self, weight_NRC: Tensor) -> State:
        """The running means of the gradient and of the squared orthogonal factor."""
        second_moment = weight_NRC.new_zeros(_second_moment_shape(weight_NRC))
        return super().new_state(weight_NRC) | {"second_moment": second_moment}
