"""Adam with decoupled weight decay.

Works on a tensor of any shape. Source: modded-nanogpt (records 43 and 50).
"""

from typing import ClassVar

import torch
from torch import Tensor

from ramengpt.config.optimizer import AdamConfig, DecayConfig
from ramengpt.optimizers.rule import DeviceScalars, StepScalars, compiled, scalar_like


class Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980), its epsilon beside the uncorrected second moment.

    So with epsilon / sqrt(1 - beta2^t) in update t torch.optim.Adam does the same.
    """

    oriented: ClassVar[bool] = False
    counters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: AdamConfig, *, compile: bool) -> None:
        self._config = config
        self._apply = compiled(apply_adam_step, compile)

    def new_state(self, weight: Tensor) -> dict[str, Tensor]:
        """Running means of the gradient and of its square."""
        return {
            "first_moment": torch.zeros_like(weight),
            "second_moment": torch.zeros_like(weight),
        }

    def step(
        self,
        weight: Tensor,
        gradient: Tensor,
        state: dict[str, Tensor],
        scalars: StepScalars,
    ) -> None:
        """Update weight and moments in place."""
        config, update = self._config, scalars.update
        correction = (1 - config.beta2**update) ** 0.5 / (1 - config.beta1**update)
        self._apply(
            weight,
            gradient,
            state["first_moment"],
            state["second_moment"],
            beta1=config.beta1,
            beta2=config.beta2,
            epsilon=config.epsilon,
            correction=scalar_like(correction, weight),
            form=config,
            scalars=scalars.on_device(),
        )


def apply_adam_step(
    weight: Tensor,
    gradient: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    *,
    beta1: float,
    beta2: float,
    epsilon: float,
    correction: Tensor,
    form: DecayConfig,
    scalars: DeviceScalars,
) -> None:
    """One step, in place; the correction is that of the biases of both moments.

    Cautious decay is that of weights that the step shrinks: with a zero gradient, as an unseen
    token's, none. Temporary tensors are reused: on a CPU new ones cost most of the time.
    """
    first_moment.lerp_(gradient, 1 - beta1)
    second_moment.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    rate = scalars.learning_rate * scalars.lr_mul
    decay_rate = rate.square() if form.decay_scale == "rate_squared" else rate
    share = decay_rate * scalars.weight_decay * scalars.wd_mul
    update = second_moment.sqrt().add_(epsilon)
    torch.div(first_moment, update, out=update)
    update.mul_(rate * correction)
    if form.cautious_decay:
        shrinks = torch.mul(update, weight).gt_(0)
        update.add_(shrinks.mul_(weight).mul_(share))
    else:
        weight.mul_(1 - share)
    weight.sub_(update)
