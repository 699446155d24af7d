"""Hooks against their equations, composed with every optimizer, at zero strength and resumed."""

from dataclasses import replace

import pytest
import torch

from ramengpt.config.hooks import (
    EmaNesterovConfig,
    EvaluationAverageConfig,
    HooksConfig,
    OuterStepConfig,
)
from ramengpt.optimizers.hooks import EmaNesterov, EvaluationAverage, Hook, OuterStep, make_hooks
from tests.optimizers.models import (
    ALL_HOOKS,
    OPTIMIZERS,
    Settings,
    assert_same,
    gaussian,
    hooks_config,
    optimizers_of,
    set_gradients,
    small_model,
    train,
    values,
)

NESTEROV, OUTER, AVERAGE = ALL_HOOKS.values()
PLANS = [
    Settings(step=step, learning_rate_multiplier=1.0 - 0.05 * step, embedding_tied=step < 5)
    for step in range(10)
]


def trained(optimizer: str = "normuon", hooks: HooksConfig | None = None):
    parameters = small_model()
    optimizers = optimizers_of(parameters, optimizer, embedding_tied=True, hooks=hooks)
    train(parameters, optimizers, PLANS)
    return parameters, optimizers


def run(hook: Hook, weight: torch.Tensor, moves: list[torch.Tensor]) -> list[torch.Tensor]:
    """Where gradients are taken, in steps that add the moves to a weight."""
    seen = []
    for step, move in enumerate(moves):
        settings = Settings(step=step, run_steps=len(moves), learning_rate_multiplier=1 - step / 20)
        hook.before_forward(settings)
        seen.append(weight.clone())
        weight.add_(move)
        hook.after_step(settings)
    return seen


MOVES = [gaussian(4, 3, seed=seed) for seed in range(1, 11)]


def test_ema_nesterov_follows_its_equations() -> None:
    weight = gaussian(4, 3)
    expected, motion, points = weight.clone(), torch.zeros(4, 3, dtype=torch.float64), []
    for step, move in enumerate(MOVES):
        before = expected
        push = 0.6 * (1 - step / 20) if 2 <= step < 8 else 0.0
        points.append(before + push * motion)
        expected = points[-1] + move
        motion = 0.9 * motion + 0.1 * (expected - before)
    found = run(EmaNesterov(EmaNesterovConfig(**NESTEROV), [weight]), weight, MOVES)
    torch.testing.assert_close(torch.stack(found), torch.stack(points), rtol=0, atol=1e-14)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-14)


def test_ema_nesterov_speeds_a_constant_step_up() -> None:
    """To 1 / (1 - strength) of it."""
    config = EmaNesterovConfig(strength=0.6, decay=0.9, start_fraction=0.0, end_fraction=1.0)
    weight = torch.zeros(1, dtype=torch.float64)
    hook = EmaNesterov(config, [weight])
    for step in range(400):
        before = weight.clone()
        hook.before_forward(Settings(step=step, run_steps=400))
        weight.add_(1.0)
        hook.after_step(Settings(step=step, run_steps=400))
    assert float(weight - before) == pytest.approx(2.5, rel=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_outer_steps_follow_their_equations(momentum: float) -> None:
    weight = gaussian(4, 3)
    slow, outer_momentum = weight.clone(), torch.zeros(4, 3, dtype=torch.float64)
    hook = OuterStep(OuterStepConfig(**OUTER | {"momentum": momentum}), [weight])
    run(hook, weight, MOVES)
    for cycle in range(3):
        change = -torch.stack(MOVES[3 * cycle : 3 * cycle + 3]).sum(0)
        outer_momentum = momentum * outer_momentum + 0.7 * change
        slow = slow - momentum * outer_momentum - 0.7 * change
    torch.testing.assert_close(weight, slow + MOVES[-1], rtol=0, atol=1e-13)


def test_the_average_follows_its_equations_and_evaluation_brings_the_weights_back() -> None:
    weight = gaussian(4, 3)
    hook = EvaluationAverage(EvaluationAverageConfig(**AVERAGE), [weight])
    path = [weight + torch.stack(MOVES[:n]).sum(0) for n in range(1, 11)]
    run(hook, weight, MOVES)
    average = path[3]
    for point in path[4:]:
        average = average + (point - average) / 3
    before = weight.clone()
    with hook.evaluation_weights():
        torch.testing.assert_close(weight, 0.4 * path[-1] + 0.6 * average, rtol=0, atol=1e-13)
    assert torch.equal(weight, before)


def test_before_its_start_the_average_is_the_weights() -> None:
    weight = gaussian(4, 3)
    hook = EvaluationAverage(EvaluationAverageConfig(**AVERAGE | {"start_fraction": 1.0}), [weight])
    run(hook, weight, MOVES)
    before = weight.clone()
    with hook.evaluation_weights():
        assert torch.equal(weight, before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_average_for_evaluation_changes_no_bit_of_training(optimizer: str) -> None:
    plain, _ = trained(optimizer)
    averaged, optimizers = trained(optimizer, hooks_config(evaluation_average=AVERAGE))
    assert_same(values(averaged), values(plain))
    before = values(averaged)
    with optimizers.evaluation_weights():
        assert all(not torch.equal(averaged[name], before[name]) for name in before)
    assert_same(values(averaged), before)


ZERO = {
    "ema_nesterov": NESTEROV | {"strength": 0.0},
    "outer_step": OUTER | {"learning_rate": 1.0, "momentum": 0.0},
    "evaluation_average": AVERAGE | {"share": 0.0},
}
HOOKS = {
    "ema_nesterov": (EmaNesterov, EmaNesterovConfig),
    "outer_step": (OuterStep, OuterStepConfig),
    "evaluation_average": (EvaluationAverage, EvaluationAverageConfig),
}


@pytest.mark.parametrize("name", ZERO)
def test_a_hook_of_zero_strength_changes_no_bit(name: str) -> None:
    """The hook runs here; from params.yaml it would not even be made."""
    plain, hooked = gaussian(4, 3), gaussian(4, 3)
    plain, hooked = plain.float(), hooked.float()
    make, config = HOOKS[name]
    hook = make(config(**ZERO[name]), [hooked])
    run(Hook([plain]), plain, [move.float() for move in MOVES])
    run(hook, hooked, [move.float() for move in MOVES])
    assert torch.equal(plain, hooked)
    with hook.evaluation_weights():
        assert torch.equal(plain, hooked)


def test_hooks_are_off_in_params_and_made_only_where_they_are_on() -> None:
    assert make_hooks(hooks_config(), []) == []
    made = make_hooks(hooks_config(**ALL_HOOKS), [])
    assert [hook.name for hook in made] == ["outer_step", "ema_nesterov", "evaluation_average"]


def test_while_tied_the_hooks_keep_embedding_and_head_one_matrix() -> None:
    parameters = small_model()
    hooks = hooks_config(**ALL_HOOKS)
    optimizers = optimizers_of(parameters, embedding_tied=True, hooks=hooks)
    for plan in [replace(plan, embedding_tied=True) for plan in PLANS]:
        optimizers.before_forward(plan)
        assert torch.equal(parameters["embedding.weight"], parameters["head.weight"])
        set_gradients(parameters, plan.step)
        optimizers.step(plan)
        assert torch.equal(parameters["embedding.weight"], parameters["head.weight"])


def test_a_state_with_other_hooks_is_refused() -> None:
    _, optimizers = trained(hooks=hooks_config(outer_step=OUTER))
    with pytest.raises(ValueError, match=r"saved hooks: expected \[\], found \['outer_step'\]"):
        optimizers_of(small_model()).load_state_dict(optimizers.state_dict())
