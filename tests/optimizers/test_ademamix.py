"""AdEMAMix against the implementation of pytorch-optimizer, and its ramp against the paper's."""

import math

import pytest
import torch
from pytorch_optimizer import AdEMAMix as TheirAdEMAMix

from ramengpt.optimizers.ademamix import AdEMAMix, ramped_decay
from tests.optimizers.models import gaussian, optimizer_config, scalars


@pytest.mark.parametrize("ramp_steps", [None, 12])
def test_it_is_the_librarys(ramp_steps: int | None) -> None:
    config = optimizer_config("ademamix", epsilon=1e-3, ramp_fraction=1.0 if ramp_steps else 0.0)
    rule, weight = AdEMAMix(config, compile=False), gaussian(2, 5, 7)
    theirs = torch.nn.Parameter(weight.clone())
    their_optimizer = TheirAdEMAMix(
        [theirs],
        lr=0.02,
        betas=(config.beta1, config.beta2, config.beta3),
        alpha=config.alpha,
        t_alpha_beta3=ramp_steps,
        weight_decouple=True,
        weight_decay=0.3,
        eps=1e-3,
    )
    state = rule.new_state(weight)
    for update in range(1, 9):
        gradient = gaussian(2, 5, 7, seed=update)
        theirs.grad = gradient.clone()
        their_optimizer.step()
        numbers = scalars(update, 0.01, lr_mul=2.0, weight_decay=0.3, progress=update / 12)
        rule.step(weight, gradient, state, numbers)
        torch.testing.assert_close(weight, theirs.detach(), rtol=0, atol=1e-14)


def test_the_slow_decay_grows_linearly_in_its_half_life() -> None:
    def half_life(decay: float) -> float:
        return math.log(0.5) / math.log(decay)

    assert ramped_decay(0.9, 0.9999, 0.0) == pytest.approx(0.9)
    assert ramped_decay(0.9, 0.9999, 1.0) == 0.9999
    assert ramped_decay(0.9, 0.9999, 0.25) == pytest.approx(0.9996, abs=1e-5)
    middle = half_life(ramped_decay(0.9, 0.99, 0.5))
    assert middle == pytest.approx((half_life(0.9) + half_life(0.99)) / 2)


def test_a_constant_gradient_steps_1_plus_alpha_as_far() -> None:
    config = optimizer_config("ademamix", ramp_fraction=0.0)
    rule, weight = AdEMAMix(config, compile=False), torch.zeros(1, 1, 1, dtype=torch.float64)
    state = rule.new_state(weight)
    for update in range(1, 2001):
        before = weight.clone()
        rule.step(weight, torch.ones_like(weight), state, scalars(update, 0.01))
    assert float(before - weight) == pytest.approx(0.01 * (1 + config.alpha), rel=1e-6)
