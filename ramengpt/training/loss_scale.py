"""Dynamic loss scaling keeps float16 gradients in range: as large as possible without overflow.

The loss is multiplied by the scale, and gradients are divided by it before anything reads them. A
step whose gradients overflow is skipped, and the scale halves; after enough steps without overflow
it doubles. Only for float16, whose largest value is 65,504 and whose smallest is 6e-8. Each step
waits for the GPU once, to know whether it overflowed.

Source: mixed precision training (1710.03740), with the constants of PyTorch's GradScaler.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

FIRST_SCALE = 2.0**16
STEPS_TO_DOUBLE = 2000
SMALLEST_SCALE = 2.0**-8
"""If gradients overflow even at this scale, the run has diverged."""


class LossScale:
    """The scale and the state that it depends on.

    Attributes:
        value: multiplies the loss of the next step.
        good_steps: since the scale last changed.
        skipped_steps: of the run.
    """

    def __init__(self) -> None:
        self.value = FIRST_SCALE
        self.good_steps = 0
        self.skipped_steps = 0

    def must_skip(self, norms: Mapping[str, Tensor]) -> bool:
        """Whether the step overflowed and must be skipped; adapts the scale.

        Args:
            norms: of the gradients, by group; infinite or NaN after an overflow.
        """
        if all(bool(norm.isfinite()) for norm in norms.values()):
            self.good_steps += 1
            if self.good_steps == STEPS_TO_DOUBLE:
                self.value, self.good_steps = 2 * self.value, 0
            return False
        if self.value <= SMALLEST_SCALE:
            return False
        self.value, self.good_steps = self.value / 2, 0
        self.skipped_steps += 1
        return True

    def state_dict(self) -> dict[str, Any]:
        """As a checkpoint stores it."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a saved state."""
        vars(self).update(state)
