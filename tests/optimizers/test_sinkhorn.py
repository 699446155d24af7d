"""Alternating balancing, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.optimizers.sinkhorn import COLUMNS, ROWS, balanced
from tests.optimizers.models import gaussian


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(2, 12),
    columns=st.integers(2, 12),
    passes=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_the_last_side_is_exact_and_the_mean_square_is_one(rows, columns, passes, seed) -> None:
    for last in (ROWS, COLUMNS):
        result = balanced(gaussian(2, rows, columns, seed=seed), passes, last)
        mean_square = result.square().mean(dim=last)
        torch.testing.assert_close(mean_square, torch.ones_like(mean_square), rtol=1e-12, atol=0)
        assert result.square().mean() == pytest.approx(1.0, abs=1e-12)


def test_both_sides_converge() -> None:
    def imbalance(passes: int) -> float:
        rows = balanced(gaussian(1, 32, 64), passes, COLUMNS).square().mean(dim=ROWS)
        return float((rows - 1).abs().max())

    errors = [imbalance(passes) for passes in (1, 2, 5, 20)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2] > 125 * errors[3]
    assert errors[2] < 1e-4
    assert errors[3] < 1e-13


@pytest.mark.parametrize("passes", [1, 2, 5, 6])
def test_size_does_not_depend_on_the_size_of_the_matrix(passes: int) -> None:
    """Balancing both sides at once from unnormalised sums would return 1 / size for odd passes."""
    matrix = gaussian(1, 8, 16).float()
    for factor in (1e-3, 1e-2, 1e3):
        torch.testing.assert_close(
            balanced(factor * matrix, passes, COLUMNS), balanced(matrix, passes, COLUMNS)
        )
