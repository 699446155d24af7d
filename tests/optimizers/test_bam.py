"""SinkNorm's properties, and BAM against its equations, in float64."""

import pytest
import torch

from ramengpt.optimizers.bam import Bam, sink_norm
from tests.optimizers.models import gaussian, optimizer_config, scalars

TALL, WIDE = (2, 40, 16), (2, 16, 40)


def by_hand(matrix: torch.Tensor) -> torch.Tensor:
    """One pass of the definition."""
    rows, columns = matrix.shape[-2:]
    for dim in (2, 1) if rows > columns else (1, 2):
        matrix = matrix / matrix.norm(dim=dim, keepdim=True)
    return matrix


@pytest.mark.parametrize("shape", [TALL, WIDE, (2, 16, 16)])
def test_steps_follow_the_equations(shape) -> None:
    rule, weight = Bam(optimizer_config("bam"), compile=False), gaussian(*shape)
    expected, momentum, state = weight.clone(), 0.0, rule.new_state(weight)
    for update in range(1, 4):
        gradient = gaussian(*shape, seed=update)
        momentum = 0.9 * momentum + 0.1 * gradient
        step = by_hand(0.1 * gradient + 0.9 * momentum)
        gain = max(1, shape[1] / shape[2]) ** 0.5
        expected = (1 - 0.02 * 2.0 * 0.1 * 3.0) * expected - 0.02 * 2.0 * gain * step
        rule.step(
            weight, gradient, state, scalars(update, 0.02, weight_decay=0.1, lr_mul=2, wd_mul=3)
        )
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [TALL, WIDE, (2, 16, 16)])
def test_norm_is_that_of_an_orthogonal_factor(shape) -> None:
    norms = sink_norm(gaussian(*shape), 1).norm(dim=(1, 2))
    torch.testing.assert_close(norms, torch.full_like(norms, 4.0), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("shape", "dim"), [(TALL, 1), (WIDE, 2)])
def test_vectors_along_the_shorter_side_have_length_one(shape, dim) -> None:
    norms = sink_norm(gaussian(*shape).float(), 1).norm(dim=dim)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("shape", "dim"), [(TALL, 2), (WIDE, 1)])
def test_many_passes_bring_the_other_side_to_one_norm_too(shape, dim) -> None:
    norms = sink_norm(gaussian(*shape), 50).norm(dim=dim)
    expected = torch.full_like(norms, (16 / 40) ** 0.5)
    torch.testing.assert_close(norms, expected, rtol=1e-10, atol=0)
    assert (sink_norm(gaussian(*shape), 1).norm(dim=dim) - expected).abs().max() > 1e-3


def test_transposing_commutes_for_matrices_that_are_not_square() -> None:
    matrix = gaussian(*TALL)
    torch.testing.assert_close(sink_norm(matrix.mT, 2), sink_norm(matrix, 2).mT)


def test_signs_and_permutations_commute() -> None:
    matrix = gaussian(*WIDE)
    signs = torch.sign(gaussian(16, 1, seed=3))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    changed = sink_norm((signs * matrix)[:, :, order], 1)
    torch.testing.assert_close(changed, (signs * sink_norm(matrix, 1))[:, :, order])


def test_rows_of_zeros_stay_zero_and_tiny_ones_do_not_explode() -> None:
    matrix = gaussian(*TALL).float()
    matrix[0, 3] = 0.0
    matrix[0, 4] = 1e-30
    result = sink_norm(matrix, 5)
    assert result[0, 3].abs().max() == 0
    assert result.isfinite().all()
    assert result.abs().max() <= 1
