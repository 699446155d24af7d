"""ARO-Sinkhorn's properties in float64, and what goes wrong when they are missed."""

import pytest
import torch
from torch import Tensor

from ramengpt.optimizers.aro import Aro
from ramengpt.optimizers.sinkhorn import COLUMNS, balanced
from tests.optimizers.models import (
    Settings,
    gaussian,
    optimizer_config,
    optimizers_of,
    rotation,
    scalars,
    set_gradients,
    small_model,
)

SHAPE = (2, 12, 30)


def aro(shift: float = 1e-12) -> Aro:
    config = optimizer_config("aro", qr_shift=shift)
    return Aro(config, compile=False)


def update_of(
    momentum: Tensor, rotation_NRR: Tensor, rule: Aro | None = None
) -> tuple[Tensor, Tensor]:
    """Update and new rotation, from a momentum and a rotation."""
    new = rotation_NRR.expand(momentum.size(0), -1, -1).clone()
    update = (rule or aro()).rotated_update(momentum, new, torch.zeros((), dtype=torch.int64))
    return update, new


def identity() -> Tensor:
    return torch.eye(12, dtype=torch.float64)


def test_steps_follow_the_equations() -> None:
    rule, weight = aro(), gaussian(*SHAPE)
    state = rule.new_state(weight)
    expected, momentum, turn = weight.clone(), 0.0, identity().expand(2, 12, 12)
    for update in range(1, 4):
        gradient = gaussian(*SHAPE, seed=update)
        momentum = 0.95 * momentum + 0.05 * gradient
        q, r = torch.linalg.qr(momentum @ balanced(turn.mT @ momentum, 5, COLUMNS).mT)
        turn = q * torch.sign(r.diagonal(dim1=-2, dim2=-1))[:, None]
        step = turn @ balanced(turn.mT @ momentum, 5, COLUMNS)
        step = 0.2 * step / step.square().mean(dim=(1, 2), keepdim=True).sqrt()
        expected = expected - 0.004 * 2 * (0.1 * 3 * expected + step)
        numbers = scalars(update, 0.004, weight_decay=0.1, momentum=0.95, lr_mul=2, wd_mul=3)
        rule.step(weight, gradient, state, numbers)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-12)
    assert state["kept_rotations"] == 0


def test_flipping_the_signs_of_the_rotations_columns_changes_nothing() -> None:
    signs = torch.sign(gaussian(12, seed=4))
    plain, turn = update_of(gaussian(*SHAPE), rotation(12))
    flipped, flipped_turn = update_of(gaussian(*SHAPE), rotation(12) * signs)
    torch.testing.assert_close(plain, flipped, rtol=0, atol=1e-12)
    torch.testing.assert_close(turn * signs, flipped_turn, rtol=0, atol=1e-12)


def test_rotating_gradients_and_first_rotation_rotates_the_update() -> None:
    turn = rotation(12, seed=5)
    plain = rotation(12)
    turned = turn @ plain
    for step in range(4):
        momentum = gaussian(*SHAPE, seed=step)
        update, plain = update_of(momentum, plain)
        update_turned, turned = update_of(turn @ momentum, turned)
        torch.testing.assert_close(update_turned, turn @ update, rtol=0, atol=1e-11)


def test_the_first_rotation_is_forgotten() -> None:
    turn, momentum = rotation(12, seed=5), gaussian(*SHAPE)
    plain = turned = identity()
    errors = []
    for _ in range(40):
        update, plain = update_of(momentum, plain)
        update_turned, turned = update_of(turn @ momentum, turned)
        errors.append(float((update_turned - turn @ update).norm() / update.norm()))
    assert errors[0] > 0.1
    assert min(errors[5:]) < errors[0] / 2


def test_balancing_rows_alone_recovers_the_orthogonal_factor() -> None:
    """Then the rotation converges to the singular vectors."""

    def rows_only(matrix: Tensor, passes: int) -> Tensor:
        return matrix / matrix.norm(dim=-1, keepdim=True)

    rule = aro()
    rule._balance = rows_only
    left, right = rotation(12), rotation(30, seed=6)[:12]
    momentum = (left * torch.linspace(1, 4, 12, dtype=torch.float64) @ right)[None]
    turn = identity()
    for _ in range(300):
        update, turn = update_of(momentum, turn, rule)
    torch.testing.assert_close(update, (left @ right)[None], rtol=0, atol=1e-12)


def test_a_momentum_that_determines_no_rotation_keeps_the_last_one_and_is_counted() -> None:
    rule, weight = aro(1e-7), torch.ones(3, 8, 16)
    state = rule.new_state(weight)
    gradient = gaussian(3, 8, 16).float()
    gradient[1:] = 0.0
    rule.step(weight, gradient, state, scalars(dtype=torch.float32))
    assert state["kept_rotations"] == 2
    assert not torch.equal(state["rotation"][0], torch.eye(8))
    assert torch.equal(state["rotation"][1:], torch.eye(8).expand(2, 8, 8))
    assert weight.isfinite().all()
    assert torch.equal(weight[1:], torch.ones(2, 8, 16))


def test_matrices_are_turned_so_that_the_residual_stream_is_rotated() -> None:
    """A stored rotation's size says which side it turns."""
    parameters = small_model()
    optimizers = optimizers_of(parameters, "aro")
    shapes = {
        param_group.name: param_group.stack.weight().shape
        for param_group in optimizers.param_groups
    }
    assert shapes["hidden/16x16"] == (8, 16, 16)
    assert shapes["hidden/16x48"] == (4, 16, 48)

    square = next(
        param_group for param_group in optimizers.param_groups if param_group.name == "hidden/16x16"
    )
    blocks = parameters["0.qkvo"].detach().unflatten(0, (4, 16))
    torch.testing.assert_close(square.stack.weight()[:3], blocks[:3].mT)
    torch.testing.assert_close(square.stack.weight()[3], blocks[3])


def test_updates_of_stored_matrices_have_the_fixed_size() -> None:
    parameters = small_model(dtype=torch.float64)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizers = optimizers_of(parameters, "aro")
    set_gradients(parameters, 0)
    optimizers.step(Settings(momentum=0.95))
    config = optimizer_config("aro")
    for name, lr_mul in (("0.qkvo", 1.0), ("1.mlp_in", 1.0), ("1.mlp_out", 2.0)):
        rate = lr_mul * config.learning_rate
        moved = parameters[name].detach() - (1 - rate * config.weight_decay) * before[name]
        assert moved.square().mean().sqrt() == pytest.approx(0.2 * rate, rel=1e-9)


def test_rotations_stay_orthogonal_in_float32() -> None:
    rule, weight = aro(1e-7), torch.zeros(SHAPE)
    state = rule.new_state(weight)
    for update in range(1, 21):
        rule.step(
            weight,
            gaussian(*SHAPE, seed=update).float(),
            state,
            scalars(update, dtype=torch.float32),
        )
    gram = state["rotation"].mT @ state["rotation"]
    torch.testing.assert_close(gram, torch.eye(12).expand_as(gram), rtol=0, atol=2e-6)
