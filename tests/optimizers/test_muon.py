"""Muon against its equations, in float64."""

import pytest
import torch

from ramengpt.errors import UserError
from ramengpt.optimizers.muon import Muon, with_row_floor
from ramengpt.optimizers.polar_coefficients import polynomials
from ramengpt.optimizers.polar_express import polar_express
from tests.optimizers.models import (
    Settings,
    gaussian,
    optimizer_config,
    optimizers_of,
    orthogonal,
    scalars,
    set_gradients,
    small_model,
)

SHAPES = [(2, 12, 12), (2, 24, 8), (2, 8, 24)]


def muon() -> Muon:
    return Muon(optimizer_config("muon"), compile=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_follow_the_equations(shape) -> None:
    rule, weight = muon(), gaussian(*shape)
    expected, momentum = weight.clone(), torch.zeros_like(weight)
    state = rule.new_state(weight)
    for update in range(1, 4):
        gradient = gaussian(*shape, seed=update)
        momentum = 0.9 * momentum + 0.1 * gradient
        step = orthogonal(0.1 * gradient + 0.9 * momentum)
        rate = 0.02 * max(1, shape[1] / shape[2]) ** 0.5 * 2.0
        mask = (step * expected >= 0).double()
        expected = expected - rate * step - rate * 0.02 * 1.2 * 3.0 * mask * expected
        rule.step(
            weight,
            gradient,
            state,
            scalars(update, 0.02, weight_decay=1.2, lr_mul=2.0, wd_mul=3.0),
        )
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-14)


def test_query_key_value_and_output_are_orthogonalised_apart() -> None:
    """Joint orthogonalisation starves a block whose gradient is small."""
    parameters = small_model()
    before = parameters["0.qkvo"].detach().clone()
    optimizers = optimizers_of(parameters, "muon")
    set_gradients(parameters, 0)
    parameters["0.qkvo"].grad[-16:] *= 0.001
    optimizers.step(Settings())
    moved = (parameters["0.qkvo"].detach() - before).unflatten(0, (4, 16)).norm(dim=(1, 2))
    assert moved.max() / moved.min() < 1.2


@pytest.mark.parametrize("shape", [(1, 24, 8), (1, 8, 24), (1, 12, 12)])
def test_the_entry_muon_jordan_is_torchs_muon(shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64: torch's own rounds to bfloat16."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor)
    config = optimizer_config("muon_jordan")
    rule, weight = Muon(config, compile=False), gaussian(*shape)
    theirs = torch.nn.Parameter(weight[0].clone())
    torch_muon = torch.optim.Muon(
        [theirs],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum.peak,
        adjust_lr_fn="original",
    )
    state = rule.new_state(weight)
    for update in range(1, 6):
        gradient = gaussian(*shape, seed=update)
        theirs.grad = gradient[0].clone()
        torch_muon.step()
        numbers = scalars(
            update,
            config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.momentum.peak,
        )
        rule.step(weight, gradient, state, numbers)
        torch.testing.assert_close(weight[0], theirs.detach(), rtol=0, atol=1e-13)


def test_newton_schulz_brings_singular_values_near_1() -> None:
    coefficients, headroom = polynomials(optimizer_config("muon_jordan").polar)
    matrix = gaussian(1, 24, 12)
    values = torch.linalg.svdvals(polar_express(matrix, coefficients, headroom, torch.float64))
    assert ((values > 0.67) & (values < 1.14)).all()


@pytest.mark.parametrize("floor", [0.0, 0.3, 2.0])
def test_no_row_of_an_update_is_shorter_than_the_floor(floor: float) -> None:
    update, weight = gaussian(2, 12, 8), gaussian(2, 12, 8, seed=1)
    update[:, 3] = 0
    update[:, 4:8] *= 0.01
    floored = with_row_floor(update, weight, floor)
    own, found = update.norm(dim=-1), floored.norm(dim=-1)
    expected = torch.maximum(own, floor * weight.norm(dim=-1) * (own > 0))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    longer = own >= floor * weight.norm(dim=-1)
    assert torch.equal(floored[longer], update[longer])


def test_the_floor_counts_the_gain_of_tall_matrices() -> None:
    rule = Muon(optimizer_config("muon", row_floor=0.3), compile=False)
    start, weight = gaussian(1, 32, 8), gaussian(1, 32, 8)
    rule.step(weight, gaussian(1, 32, 8, seed=1), rule.new_state(weight), scalars(1, 0.02))
    relative = ((weight - start).norm(dim=-1) / start.norm(dim=-1)) / 0.02
    assert float(relative.min()) == pytest.approx(0.3)
    assert float(relative.max()) > 0.31


@pytest.mark.parametrize("optimizer", ["muon", "normuon"])
def test_q_and_k_can_be_orthogonalised_by_pairs_of_heads(optimizer: str) -> None:
    """A pair whose gradient is small moves as far as the others; whole, it would hardly move."""
    moved = {}
    for heads in (0, 2):
        parameters = small_model()
        before = parameters["0.qkvo"].detach().clone()
        for name in ("0.qkvo", "1.qkvo"):
            parameters[name].query_key_block_heads = heads
        optimizers = optimizers_of(parameters, optimizer)
        set_gradients(parameters, 0)
        for first_row in (0, 24, 32):  # a pair of q, one of k, half of v
            parameters["0.qkvo"].grad[first_row : first_row + 8] *= 1e-4
        optimizers.step(Settings())
        change = parameters["0.qkvo"].detach() - before
        moved[heads] = change.unflatten(0, (8, 8)).norm(dim=(1, 2))
        members = [m for group in optimizers.param_groups for m in group.stack.members]
        assert ("0.qkvo[0]" in members) == (heads == 0)
        assert ("0.qkvo[1.1]" in members) == (heads == 2)
        assert "0.qkvo[2]" in members
    assert moved[2][:4].max() / moved[2][:4].min() < 1.3
    if optimizer == "muon":  # NorMuon evens rows out in any case
        assert moved[0][[0, 3, 4]].max() < 0.2 * moved[0][[1, 2, 5]].min()
        assert moved[2][4] < 0.2 * moved[2][5]


def test_heads_that_cannot_be_cut_so_are_refused() -> None:
    parameters = small_model()
    parameters["0.qkvo"].query_key_block_heads = 3
    with pytest.raises(UserError, match="a divisor of the model's 4 heads, or 0, found 3"):
        optimizers_of(parameters, "muon")


def test_a_tall_and_a_wide_update_have_the_same_rms_for_each_input() -> None:
    for shape in [(1, 64, 16), (1, 16, 64)]:
        rule, weight = muon(), torch.zeros(shape, dtype=torch.float64)
        gradient = gaussian(*shape)
        rule.step(weight, gradient, rule.new_state(weight), scalars(learning_rate=1.0))
        assert weight.square().mean().sqrt() == pytest.approx(shape[2] ** -0.5, rel=0.15)
