"""What every rule of params.yaml owes: stacks, scale, zero gradients."""

import pytest
import torch
from torch import Tensor

from benchmarks.optimizer_step import MEASURED
from ramengpt.optimizers.rules import make_rule
from tests.optimizers.models import OPTIMIZERS, gaussian, optimizer_config, scalars

SCALE_FREE = [
    "normuon", "muon", "muon_jordan", "muon_eq_r", "bam", "aro", "soap_muon", "muon_hyperball",
    "lite",
]  # fmt: skip
SHAPES = [(3, 8, 8), (3, 8, 20), (3, 20, 8)]


def stepped(
    name: str, weight: Tensor, gradients: list[Tensor], changes: dict | None = None
) -> Tensor:
    """Weights after a step with each gradient, without decay."""
    rule, weight = make_rule(optimizer_config(name, **changes or {}), compile=False), weight.clone()
    state = rule.new_state(weight)
    for update, gradient in enumerate(gradients, start=1):
        numbers = scalars(update, 0.02, progress=update / 20)
        rule.step(weight, gradient, state, numbers)
    return weight


def gradients_of(shape: tuple[int, ...]) -> list[Tensor]:
    return [gaussian(*shape, seed=seed) for seed in range(1, 13)]


def shapes_of(name: str) -> list[tuple[int, ...]]:
    """Aro's matrices come oriented, never tall."""
    rule = make_rule(optimizer_config(name), compile=False)
    return SHAPES[:2] if rule.oriented else SHAPES


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_stack_moves_as_its_matrices_do_alone(name: str) -> None:
    for shape in shapes_of(name):
        weight, gradients = gaussian(*shape), gradients_of(shape)
        together = stepped(name, weight, gradients)
        for number in range(3):
            own = slice(number, number + 1)
            alone = stepped(name, weight[own], [gradient[own] for gradient in gradients])
            torch.testing.assert_close(together[own], alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SCALE_FREE)
def test_the_scale_of_the_gradient_changes_nothing(name: str) -> None:
    for shape in shapes_of(name):
        weight, gradients = gaussian(*shape), gradients_of(shape)
        for scale in (2.0**-20, 2.0**13):  # exact, so that null spaces get the same bases
            torch.testing.assert_close(
                stepped(name, weight, [scale * gradient for gradient in gradients]),
                stepped(name, weight, gradients),
                rtol=0,
                atol=1e-9,
            )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_gradients_move_nothing(name: str) -> None:
    for shape in shapes_of(name):
        weight = gaussian(*shape).float()
        moved = stepped(name, weight, [torch.zeros_like(weight)] * 12)
        torch.testing.assert_close(moved, weight, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_that_start_at_zero_move_against_the_gradient(name: str) -> None:
    weight, gradient = torch.zeros(1, 8, 8, dtype=torch.float64), gaussian(1, 8, 8)
    moved = stepped(name, weight, [gradient] * 3)
    assert moved.isfinite().all()
    assert float((moved * gradient).sum()) < 0


def test_the_benchmark_covers_every_entry() -> None:
    assert sorted(MEASURED) == sorted(OPTIMIZERS)
