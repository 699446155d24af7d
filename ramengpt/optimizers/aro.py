"""ARO-Sinkhorn: balance the momentum in a rotation that is learned during training.

Shapes: N matrices of R rows (the residual stream) and C >= R columns.
Sources: ARO (arXiv 2602.09006) for the rotation, SinkGD (arXiv 2502.06742) for the balancing.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ramengpt.config.optimizer import AroConfig
from ramengpt.config.optimizer_blocks import DecayConfig
from ramengpt.optimizers.cholesky_qr import orthogonal_factor
from ramengpt.optimizers.rule import (
    DeviceScalars,
    State,
    StepScalars,
    UpdateRule,
    compiled,
    reciprocal_root,
)
from ramengpt.optimizers.sinkhorn import COLUMNS, balanced
from ramengpt.optimizers.weight_decay import decay_share, step_and_decay


def _balanced_columns_last(matrix_NRC: Tensor, passes: int) -> Tensor:
    """The order of SinkGD."""
    return balanced(matrix_NRC, passes, COLUMNS)


def apply_fixed_rms_step(
    weight_NRC: Tensor,
    update_NRC: Tensor,
    update_rms: float,
    form: DecayConfig,
    scalars: DeviceScalars,
) -> None:
    """Step along the update at a fixed RMS, with decoupled weight decay, in place."""
    mean_square_N11 = update_NRC.square().mean(dim=(-2, -1), keepdim=True)
    rate_N11 = scalars.learning_rate * scalars.lr_mul
    scaled_N11 = rate_N11 * update_rms * reciprocal_root(mean_square_N11)
    step_and_decay(weight_NRC, update_NRC, scaled_N11, decay_share(scalars, rate_N11, form), form)


class Aro(UpdateRule[AroConfig]):
    """Q <- orthogonal(M f(Q^T M)^T), step along Q f(Q^T M): M is the momentum, f balances.

    The update has a fixed RMS, a share of Adam's, so Adam's learning rate and decay are a fair
    start. A matrix whose momentum does not determine a rotation (all zero in the first step, say)
    keeps its last one; `kept_rotations` counts how often.
    """

    oriented: ClassVar[bool] = True
    counters: ClassVar[tuple[str, ...]] = ("kept_rotations",)
    apply = staticmethod(apply_fixed_rms_step)

    def __init__(self, config: AroConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self._balance = compiled(_balanced_columns_last, compile)

    def new_state(self, weight_NRC: Tensor) -> State:
        """The running mean of the gradient, and rotations that start as the identity."""
        identity_RR = torch.eye(
            weight_NRC.size(-2), dtype=weight_NRC.dtype, device=weight_NRC.device
        )
        return {
            "momentum": torch.zeros_like(weight_NRC),
            "rotation": identity_RR.repeat(weight_NRC.size(0), 1, 1),
            "kept_rotations": torch.zeros((), dtype=torch.int64, device=weight_NRC.device),
        }

    def step(
        self, weight_NRC: Tensor, gradient_NRC: Tensor, state: State, scalars: StepScalars
    ) -> None:
        """Update weight, momentum and rotation in place."""
        numbers = scalars.on_device()
        momentum_NRC, rotation_NRR = state["momentum"], state["rotation"]
        momentum_NRC.lerp_(gradient_NRC, 1 - numbers.momentum)
        update_NRC = self.rotated_update(momentum_NRC, rotation_NRR, state["kept_rotations"])
        self._apply(weight_NRC, update_NRC, self._config.update_rms, self._config, numbers)

    def rotated_update(
        self, momentum_NRC: Tensor, rotation_NRR: Tensor, kept_rotations: Tensor
    ) -> Tensor:
        """Update the rotations in place; return the momentum, balanced in them.

        The rotation is the orthogonal one that agrees most with the momentum and its balanced
        version (a Procrustes problem), by QR instead of the polar factor, which is robuster.
        """
        passes = self._config.sinkhorn_passes
        balanced_NRC = self._balance(rotation_NRR.mT @ momentum_NRC, passes)
        agreement_NRR = momentum_NRC @ balanced_NRC.mT
        new_NRR, good_N = orthogonal_factor(
            agreement_NRR,
            self._config.shifted_qr_passes,
            self._config.plain_qr_passes,
            self._config.qr_shift,
        )
        rotation_NRR.copy_(torch.where(good_N[:, None, None], new_NRR, rotation_NRR))
        kept_rotations.add_((~good_N).sum())
        return rotation_NRR @ self._balance(rotation_NRR.mT @ momentum_NRC, passes)
