"""Decoupled weight decay, plain or cautious, scaled by the learning rate or by its square.

Shapes: N matrices of R rows and C columns.
"""

import torch
from torch import Tensor

from ramengpt.config.optimizer_blocks import DecayConfig
from ramengpt.optimizers.rule import DeviceScalars


def decay_share(scalars: DeviceScalars, step_rate: Tensor, form: DecayConfig) -> Tensor:
    """The share of the weights that one step removes.

    Scaled by the square it follows the schedule twice (modded-nanogpt, record 43).

    Args:
        scalars: of the step.
        step_rate: the learning rate with the parameters' multiplier and the gain of their shape.
        form: which scale.
    """
    if form.decay_scale == "rate_squared":
        return step_rate * scalars.learning_rate * scalars.weight_decay * scalars.wd_mul
    return scalars.learning_rate * scalars.lr_mul * scalars.weight_decay * scalars.wd_mul


def step_and_decay(
    weight: Tensor, update: Tensor, step_rate: Tensor, share: Tensor, form: DecayConfig
) -> None:
    """weight <- weight - step_rate * update - share * weight, in place.

    Cautious decay (arXiv 2510.12402) leaves out weights that the update moves away from zero, as
    they were before the step; an update of 0 counts as one that does not.
    """
    if form.cautious_decay:
        remove(weight, update, step_rate, weight, share, form)
    else:
        weight.mul_(1 - share)
        weight.sub_(step_rate * update)


def remove(  # noqa: PLR0917
    weight: Tensor,
    update: Tensor,
    step_rate: Tensor,
    decayed: Tensor,
    share: Tensor,
    form: DecayConfig,
) -> None:
    """The same with a decay that is not along the weights: share * decayed."""
    if form.cautious_decay:
        decayed = torch.where(update * weight >= 0, decayed, 0)
    weight.sub_(step_rate * update + share * decayed)
