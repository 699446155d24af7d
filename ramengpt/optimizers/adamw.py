"""AdamW with the epsilon of its paper (Loshchilov and Hutter, arXiv 1711.05101).

Works on a tensor of any shape. In its default form of decay (plain, scaled by the rate) it is
torch.optim.AdamW.
"""

from torch import Tensor

from ramengpt.config.optimizer import AdamWConfig
from ramengpt.optimizers.rule import DeviceScalars, State, StepScalars
from ramengpt.optimizers.two_moments import TwoMoments, adam_direction, bias_corrections
from ramengpt.optimizers.weight_decay import decay_share, step_and_decay


def apply_adamw_step(  # noqa: PLR0917
    weight: Tensor,
    gradient: Tensor,
    state: State,
    config: AdamWConfig,
    first_correction: Tensor,
    second_correction: Tensor,
    scalars: DeviceScalars,
) -> None:
    """One step, in place."""
    update = adam_direction(gradient, state, config, first_correction, second_correction)
    rate = scalars.learning_rate * scalars.lr_mul
    step_and_decay(weight, update, rate, decay_share(scalars, rate, config), config)


class AdamW(TwoMoments[AdamWConfig]):
    """Adam whose epsilon stands beside the corrected second moment."""

    apply = staticmethod(apply_adamw_step)

    def step(self, weight: Tensor, gradient: Tensor, state: State, scalars: StepScalars) -> None:
        """Update weight and moments in place."""
        first, second = bias_corrections(self._config, scalars.update, weight)
        numbers = scalars.on_device()
        self._apply(weight, gradient, state, self._config, first, second, numbers)
