"""SOAP: Adam in the eigenbases of the gradient's covariances (Vyas et al., arXiv 2409.11321).

Shapes: N matrices of R rows and C columns.
"""

from typing import ClassVar

from torch import Tensor

from ramengpt.config.optimizer import SoapConfig
from ramengpt.optimizers.eigenbasis import (
    new_bases,
    refresh_bases,
    rotated,
    rotated_back,
    set_eigenbases,
    update_covariances,
)
from ramengpt.optimizers.rule import DeviceScalars, State, StepScalars, compiled
from ramengpt.optimizers.two_moments import TwoMoments, joint_correction
from ramengpt.optimizers.weight_decay import decay_share, step_and_decay


def update_second_moment(
    rotated_moment_NRC: Tensor,
    rotated_gradient_NRC: Tensor,
    second_moment_NRC: Tensor,
    config: SoapConfig,
) -> Tensor:
    """Update it in place; return Adam's direction in the bases, uncorrected."""
    second_moment_NRC.mul_(config.beta2)
    second_moment_NRC.addcmul_(rotated_gradient_NRC, rotated_gradient_NRC, value=1 - config.beta2)
    return rotated_moment_NRC / (second_moment_NRC.sqrt() + config.epsilon)


def apply_soap_step(
    weight_NRC: Tensor,
    update_NRC: Tensor,
    config: SoapConfig,
    correction: Tensor,
    scalars: DeviceScalars,
) -> None:
    """Step and decay, in place; the correction is that of the biases of both moments."""
    rate_N11 = scalars.learning_rate * scalars.lr_mul
    share_N11 = decay_share(scalars, rate_N11, config)
    step_and_decay(weight_NRC, update_NRC, rate_N11 * correction, share_N11, config)


class Soap(TwoMoments[SoapConfig]):
    """Adam of the rotated gradient, rotated back.

    As in the authors' code the first gradient only sets the bases, and epsilon stands beside the
    uncorrected second moment. The first moment is kept unrotated; they rotate it whenever the bases
    change, which is the same.
    """

    counters: ClassVar[tuple[str, ...]] = ("kept_bases",)
    apply = staticmethod(apply_soap_step)

    def __init__(self, config: SoapConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self._moments = compiled(update_second_moment, compile)

    def new_state(self, weight_NRC: Tensor) -> State:
        """The mean of the gradient, that of the rotated one's square, covariances and bases."""
        return super().new_state(weight_NRC) | new_bases(weight_NRC, self._config.basis)

    def step(
        self, weight_NRC: Tensor, gradient_NRC: Tensor, state: State, scalars: StepScalars
    ) -> None:
        """Update weight, moments, covariances and bases in place."""
        config, update = self._config, scalars.update - 1
        if update == 0:
            update_covariances(state, gradient_NRC, config.basis.decay)
            set_eigenbases(state)
            return
        state["first_moment"].lerp_(gradient_NRC, 1 - config.beta1)
        direction_NRC = self._moments(
            rotated(state["first_moment"], state),
            rotated(gradient_NRC, state),
            state["second_moment"],
            config,
        )
        self._apply(
            weight_NRC,
            rotated_back(direction_NRC, state),
            config,
            joint_correction(config, update, weight_NRC),
            scalars.on_device(),
        )
        update_covariances(state, gradient_NRC, config.basis.decay)
        if update % config.basis.every_steps == 0:
            refresh_bases(state, state["second_moment"], config.basis)
