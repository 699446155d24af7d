"""BAM (SinkNorm): Muon with a cheap normalisation in place of orthogonalisation.

Shapes: N matrices of R rows and C columns, stored (out, in). Source: knightron0/bam.
"""

import torch
from torch import Tensor

from ramengpt.config.optimizer import BamConfig
from ramengpt.optimizers.polar_express import is_tall
from ramengpt.optimizers.rule import (
    DeviceScalars,
    State,
    StepScalars,
    UpdateRule,
    nesterov_direction,
    shape_gain,
)
from ramengpt.optimizers.sinkhorn import COLUMNS, ROWS, balanced
from ramengpt.optimizers.weight_decay import decay_share, step_and_decay


def sink_norm(matrix_NRC: Tensor, passes: int) -> Tensor:
    """Unit vectors along the shorter side, of nearly equal norms along the longer one.

    The Frobenius norm is sqrt(min(R, C)), that of an orthogonal factor, so Muon's learning rate is
    a fair start.
    """
    last = COLUMNS if is_tall(matrix_NRC) else ROWS
    return balanced(matrix_NRC, passes, last) * max(matrix_NRC.shape[-2:]) ** -0.5


def apply_balanced_step(
    weight_NRC: Tensor,
    gradient_NRC: Tensor,
    momentum_NRC: Tensor,
    config: BamConfig,
    scalars: DeviceScalars,
) -> None:
    """One step with decoupled weight decay, in place."""
    direction_NRC = nesterov_direction(gradient_NRC, momentum_NRC, scalars.momentum)
    update_NRC = sink_norm(direction_NRC, config.passes)
    gain = shape_gain(weight_NRC.size(-2), weight_NRC.size(-1))
    rate_N11 = scalars.learning_rate * scalars.lr_mul * gain
    step_and_decay(weight_NRC, update_NRC, rate_N11, decay_share(scalars, rate_N11, config), config)


class Bam(UpdateRule[BamConfig]):
    """Momentum whose vectors along the shorter side have length 1."""

    apply = staticmethod(apply_balanced_step)

    def new_state(self, weight_NRC: Tensor) -> State:
        """The running mean of the gradient."""
        return {"momentum": torch.zeros_like(weight_NRC)}

    def step(
        self, weight_NRC: Tensor, gradient_NRC: Tensor, state: State, scalars: StepScalars
    ) -> None:
        """Update weight and momentum in place."""
        self._apply(weight_NRC, gradient_NRC, state["momentum"], self._config, scalars.on_device())
