"""Steps on a hyperball: norms, angles, and matrices that start at zero."""

import math

import pytest
import torch
from torch import Tensor

from ramengpt.optimizers.rules import make_rule
from tests.optimizers.models import gaussian, optimizer_config, scalars

RULES = ["muon_hyperball", "adam_hyperball"]
SHAPES = [(2, 12, 12), (2, 24, 8), (2, 8, 24)]


def norm(matrix: Tensor) -> Tensor:
    return torch.linalg.vector_norm(matrix, dim=(-2, -1))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_norm_never_changes(name: str, shape) -> None:
    rule, weight = make_rule(optimizer_config(name), compile=False), gaussian(*shape)
    radius, state = norm(weight), rule.new_state(weight)
    for update in range(1, 21):
        rule.step(weight, gaussian(*shape, seed=update), state, scalars(update, 0.1))
        torch.testing.assert_close(norm(weight), radius, rtol=1e-14, atol=0)


def test_the_first_step_follows_the_equation() -> None:
    rule = make_rule(optimizer_config("adam_hyperball", epsilon=1e-300), compile=False)
    start, gradient = gaussian(2, 6, 8), gaussian(2, 6, 8, seed=1)
    weight = start.clone()
    rule.step(weight, gradient, rule.new_state(weight), scalars(1, 0.05, lr_mul=2.0))
    radius = norm(start)[:, None, None]
    moved = start - 0.1 * radius * gradient.sign() / 48**0.5
    torch.testing.assert_close(
        weight, radius * moved / norm(moved)[:, None, None], rtol=0, atol=1e-14
    )


def test_a_tangent_step_turns_by_the_arc_tangent_of_the_rate() -> None:
    rule = make_rule(optimizer_config("adam_hyperball", epsilon=1e-300), compile=False)
    weight = torch.tensor([[[3.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    gradient = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    rule.step(weight, gradient, rule.new_state(weight), scalars(1, 0.3))
    assert float(weight[0, 0, 0]) == pytest.approx(3 * math.cos(math.atan(0.3)))


@pytest.mark.parametrize("name", RULES)
def test_a_matrix_that_starts_at_zero_grows_to_its_radius_and_stays(name: str) -> None:
    rule = make_rule(optimizer_config(name, zero_init_gain=0.5), compile=False)
    weight, norms = torch.zeros(2, 9, 16, dtype=torch.float64), []
    weight[1] = gaussian(9, 16)
    state, gradient = rule.new_state(weight), gaussian(2, 9, 16, seed=1)
    for update in range(1, 41):
        rule.step(weight, gradient, state, scalars(update, 0.05))
        norms.append(float(norm(weight)[0]))
    assert norms == pytest.approx([min(0.05 * 1.5 * update, 1.5) for update in range(1, 41)])
