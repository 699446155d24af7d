"""MuonEq-R against its equations, in float64."""

import pytest
import torch
from torch import Tensor

from ramengpt.optimizers.muon_eq_r import MuonEqR, equal_rows
from tests.optimizers.models import gaussian, optimizer_config, orthogonal, rotation, scalars

SHAPES = [(2, 12, 12), (2, 24, 8), (2, 8, 24)]
CONFIG = optimizer_config("muon_eq_r")


def first_update(gradient: Tensor) -> Tensor:
    """The first step from zero, at rate 1 and without the gain of tall matrices."""
    rule, weight = MuonEqR(CONFIG, compile=False), torch.zeros_like(gradient)
    rule.step(weight, gradient, rule.new_state(weight), scalars(learning_rate=1.0))
    return -weight / max(1, gradient.size(1) / gradient.size(2)) ** 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_follow_the_equations(shape) -> None:
    rule, weight = MuonEqR(CONFIG, compile=False), gaussian(*shape)
    expected, momentum = weight.clone(), torch.zeros_like(weight)
    state = rule.new_state(weight)
    for update in range(1, 4):
        gradient = gaussian(*shape, seed=update)
        momentum = 0.9 * momentum + 0.1 * gradient
        direction = 0.1 * gradient + 0.9 * momentum
        step = orthogonal(direction / direction.norm(dim=-1, keepdim=True))
        expected = expected - 0.02 * max(1, shape[1] / shape[2]) ** 0.5 * step
        rule.step(weight, gradient, state, scalars(update, 0.02))
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_scale_of_a_row_changes_nothing(shape) -> None:
    gradient = gaussian(*shape)
    scales = torch.logspace(-2, 2, shape[1], dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        first_update(scales * gradient), first_update(gradient), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_permuted_rows_and_rotated_columns_give_the_same_step_moved(shape) -> None:
    gradient, order = gaussian(*shape), torch.randperm(shape[1])
    turned = rotation(shape[2])
    torch.testing.assert_close(
        first_update(gradient[:, order] @ turned),
        first_update(gradient)[:, order] @ turned,
        rtol=0,
        atol=1e-12,
    )


def test_rows_of_zeros_stay_zero() -> None:
    matrix = gaussian(1, 4, 6)
    matrix[:, 1] = 0
    balanced = equal_rows(matrix)
    assert balanced.isfinite().all()
    assert torch.equal(balanced[:, 1], torch.zeros(1, 6, dtype=torch.float64))
    assert first_update(matrix).isfinite().all()
