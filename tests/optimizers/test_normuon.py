"""NorMuon against its equations, in float64."""

import pytest
import torch

from ramengpt.optimizers.normuon import NorMuon, normalised_update
from tests.optimizers.models import gaussian, optimizer_config, orthogonal, scalars

SHAPES = [(2, 12, 12), (2, 24, 8), (2, 8, 24)]


def normuon() -> NorMuon:
    return NorMuon(optimizer_config("normuon", beta2=0.9), compile=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_follow_the_equations(shape) -> None:
    rule, weight = normuon(), gaussian(*shape)
    state = rule.new_state(weight)
    dim = 2 if shape[1] >= shape[2] else 1
    expected, momentum, second = weight.clone(), torch.zeros_like(weight), 0.0
    for update in range(1, 4):
        gradient = gaussian(*shape, seed=update)
        momentum = 0.9 * momentum + 0.1 * gradient
        factor = orthogonal(0.1 * gradient + 0.9 * momentum)
        second = 0.9 * second + 0.1 * factor.pow(2).mean(dim=dim, keepdim=True)
        step = factor / second.sqrt()
        step *= factor.norm(dim=(1, 2), keepdim=True) / step.norm(dim=(1, 2), keepdim=True)
        rate = 0.02 * max(1, shape[1] / shape[2]) ** 0.5
        mask = (step * expected >= 0).double()
        expected = expected - rate * step - rate * 0.02 * 1.2 * mask * expected
        rule.step(weight, gradient, state, scalars(update, 0.02, weight_decay=1.2))
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_norm_of_the_orthogonal_factor_is_kept(shape) -> None:
    factor = gaussian(*shape)
    second = gaussian(*normuon().new_state(factor)["second_moment"].shape, seed=1).square()
    update = normalised_update(factor, second, 0.9)
    torch.testing.assert_close(update.norm(dim=(1, 2)), factor.norm(dim=(1, 2)), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("shape", "dim"), [((2, 24, 8), 2), ((2, 8, 24), 1), ((2, 8, 8), 2)])
def test_first_step_gives_equal_norms_along_the_longer_side(shape, dim) -> None:
    second = normuon().new_state(gaussian(*shape))["second_moment"]
    norms = normalised_update(gaussian(*shape), second, 0.9).norm(dim=dim)
    torch.testing.assert_close(norms, norms[:, :1].expand_as(norms), rtol=1e-12, atol=0)


def test_second_moment_follows_small_changes() -> None:
    """A bfloat16 one would stay at 1."""
    second = torch.ones(1, 4, 1)
    factor = torch.full((1, 4, 4), 1.03**0.5)
    for _ in range(200):
        normalised_update(factor.bfloat16(), second, 0.95)
    assert second.dtype == torch.float32
    torch.testing.assert_close(second, factor.bfloat16().float()[..., :1].square())
