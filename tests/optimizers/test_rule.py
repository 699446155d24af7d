"""The pieces that update rules share."""

import math

import pytest
import torch

from ramengpt.optimizers.rule import nesterov_direction, reciprocal_root, shape_gain
from tests.optimizers.models import scalars


def test_nesterov_looks_ahead_of_the_running_mean() -> None:
    gradients = torch.randn(4, 3, dtype=torch.float64)
    buffer, mean = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for gradient, momentum in zip(gradients, (0.5, 0.9, 0.95, 0.0), strict=True):
        mean = momentum * mean + (1 - momentum) * gradient
        found = nesterov_direction(gradient, buffer, torch.tensor(momentum, dtype=torch.float64))
        torch.testing.assert_close(buffer, mean)
        torch.testing.assert_close(found, momentum * mean + (1 - momentum) * gradient)


@pytest.mark.parametrize(("rows", "columns", "gain"), [(4, 16, 1), (16, 16, 1), (64, 16, 2)])
def test_only_tall_matrices_step_further(rows: int, columns: int, gain: float) -> None:
    assert shape_gain(rows, columns) == gain


def test_the_root_of_nothing_is_nothing() -> None:
    found = reciprocal_root(torch.tensor([0.0, 1e-38, 4.0]))
    assert found.tolist() == [0.0, 0.0, 0.5]


def test_scalars_become_tensors_of_the_weights_type() -> None:
    numbers = scalars(learning_rate=0.1, momentum=0.3, weight_decay=2.0).on_device()
    assert {number.dtype for number in numbers} == {torch.float64}
    assert math.isclose(numbers.learning_rate.item(), 0.1)
    assert (numbers.momentum.item(), numbers.weight_decay.item()) == (0.3, 2.0)
