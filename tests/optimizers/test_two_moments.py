"""Adam's two moments against their definition, in float64."""

from types import SimpleNamespace

import pytest
import torch

from ramengpt.optimizers.adam import Adam
from ramengpt.optimizers.two_moments import (
    adam_direction,
    bias_corrections,
    corrected_root,
    joint_correction,
    update_moments,
)
from tests.optimizers.models import adam_config, gaussian

NUMBERS = SimpleNamespace(beta1=0.8, beta2=0.6, epsilon=1e-3)


def test_moments_are_weighted_sums_over_all_gradients() -> None:
    gradients = [gaussian(3, 4, seed=seed) for seed in range(5)]
    state = Adam(adam_config(), compile=False).new_state(gradients[0])
    for gradient in gradients:
        update_moments(gradient, state, NUMBERS)
    for name, beta, power in (("first_moment", 0.8, 1), ("second_moment", 0.6, 2)):
        expected = sum(
            (1 - beta) * beta**age * gradient**power
            for age, gradient in enumerate(reversed(gradients))
        )
        torch.testing.assert_close(state[name], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("update", [1, 7])
def test_corrections_make_a_constant_gradients_direction_its_sign(update: int) -> None:
    gradient = gaussian(3, 4)
    state = Adam(adam_config(), compile=False).new_state(gradient)
    for number in range(1, update + 1):
        corrections = bias_corrections(NUMBERS, number, gradient)
        direction = adam_direction(gradient, state, NUMBERS, *corrections)
    expected = gradient / (gradient.abs() + NUMBERS.epsilon)
    torch.testing.assert_close(direction, expected, rtol=0, atol=1e-14)
    root = corrected_root(state, NUMBERS, corrections[1])
    torch.testing.assert_close(root, gradient.abs() + NUMBERS.epsilon, rtol=0, atol=1e-14)


def test_the_joint_correction_is_that_of_both() -> None:
    first, second = bias_corrections(NUMBERS, 3, gaussian(1))
    joint = joint_correction(NUMBERS, 3, gaussian(1))
    torch.testing.assert_close(joint, second.sqrt() / first, rtol=0, atol=1e-15)
