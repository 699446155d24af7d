"""Adam with decoupled weight decay.

Works on a tensor of any shape. Source: modded-nanogpt (records 43 and 50).
"""

import torch
from torch import Tensor

from ramengpt.config.optimizer_blocks import AdamConfig
from ramengpt.optimizers.rule import DeviceScalars, State, StepScalars
from ramengpt.optimizers.two_moments import TwoMoments, joint_correction, update_moments


def apply_adam_step(  # noqa: PLR0917
    weight: Tensor,
    gradient: Tensor,
    state: State,
    config: AdamConfig,
    correction: Tensor,
    scalars: DeviceScalars,
) -> None:
    """One step, in place; the correction is that of the biases of both moments.

    Cautious decay is that of weights that the step shrinks: with a zero gradient, as an unseen
    token's, none. Temporary tensors are reused: on a CPU new ones cost most of the time.
    """
    update_moments(gradient, state, config)
    rate = scalars.learning_rate * scalars.lr_mul
    decay_rate = rate.square() if config.decay_scale == "rate_squared" else rate
    share = decay_rate * scalars.weight_decay * scalars.wd_mul
    update = state["second_moment"].sqrt().add_(config.epsilon)
    torch.div(state["first_moment"], update, out=update)
    update.mul_(rate * correction)
    if config.cautious_decay:
        shrinks = torch.mul(update, weight).gt_(0)
        update.add_(shrinks.mul_(weight).mul_(share))
    else:
        weight.mul_(1 - share)
    weight.sub_(update)


class Adam(TwoMoments[AdamConfig]):
    """Adam (Kingma and Ba, arXiv 1412.6980), its epsilon beside the uncorrected second moment.

    So with epsilon / sqrt(1 - beta2^t) in update t torch.optim.Adam does the same.
    """

    apply = staticmethod(apply_adam_step)

    def step(self, weight: Tensor, gradient: Tensor, state: State, scalars: StepScalars) -> None:
        """Update weight and moments in place."""
        config = self._config
        correction = joint_correction(config, scalars.update, weight)
        self._apply(weight, gradient, state, config, correction, scalars.on_device())
