"""The generated polynomials against published tables and against what makes them best."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.optimizers.polar_coefficients import (
    Quintic,
    best_quintic,
    polar_express_coefficients,
)

MODDED_NANOGPT = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


def test_published_rows_come_out() -> None:
    generated = polar_express_coefficients(5, 0.001, 0.02, 1.02)
    np.testing.assert_allclose(generated, MODDED_NANOGPT, rtol=1e-12)


def test_first_row_of_the_paper_comes_out() -> None:
    first = polar_express_coefficients(8, 0.001, 0.02407327424182761, 1.0)[0]
    np.testing.assert_allclose(first, (8.28721, -23.59589, 17.30039), atol=5e-6)


def test_polynomials_converge_to_newton_schulz() -> None:
    last = polar_express_coefficients(8, 0.001, 0.02407327424182761, 1.0)[-1]
    np.testing.assert_allclose(last, (15 / 8, -10 / 8, 3 / 8), rtol=1e-8)


def test_a_shorter_list_is_no_prefix_of_a_longer_one() -> None:
    short = polar_express_coefficients(4, 0.001, 0.02, 1.02)
    np.testing.assert_allclose(short[:3], MODDED_NANOGPT[:3], rtol=1e-12)
    assert abs(short[3].a - MODDED_NANOGPT[3][0]) > 0.05
    errors = [
        np.ptp(composition(polynomials, np.geomspace(0.01, 1, 1000)))
        for polynomials in (short, [Quintic(*row) for row in MODDED_NANOGPT[:4]])
    ]
    assert errors[0] < errors[1]


def composition(polynomials, x: np.ndarray) -> np.ndarray:
    for polynomial in polynomials:
        x = polynomial(x)
    return x


def test_singular_values_from_the_lower_bound_on_end_close_to_one() -> None:
    values = composition(
        polar_express_coefficients(5, 0.001, 0.02, 1.02), np.geomspace(1e-3, 1, 9999)
    )
    assert values.min() == pytest.approx(0.8589, abs=1e-4)
    assert values.max() == pytest.approx(1.1411, abs=1e-4)


@settings(deadline=None, max_examples=50)
@given(lower=st.floats(1e-3, 0.99), upper=st.floats(1.0, 1.9))
def test_error_has_equal_size_and_alternating_sign_at_four_points(lower, upper) -> None:
    polynomial = best_quintic(lower, upper)
    grid = np.linspace(lower, upper, 20001)
    error = 1 - polynomial(grid)
    largest = abs(error).max()
    turning = np.flatnonzero(np.diff(np.sign(np.diff(error)))) + 1
    assert len(turning) == 2
    extremes = error[[0, *turning, -1]]
    assert extremes[0] > 0
    np.testing.assert_allclose(extremes * [1, -1, 1, -1], largest, rtol=1e-6, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(
    lower=st.floats(0.05, 0.9),
    nudges=st.lists(st.floats(-1e-3, 1e-3), min_size=3, max_size=3),
)
def test_no_nearby_quintic_is_closer_to_one(lower, nudges) -> None:
    best = best_quintic(lower, 1.0)
    nudged = Quintic(*(value + nudge for value, nudge in zip(best, nudges, strict=True)))
    grid = np.linspace(lower, 1, 4001)
    assert abs(1 - nudged(grid)).max() >= abs(1 - best(grid)).max() - 1e-9


@pytest.mark.parametrize("steps", [1, 2, 3, 6, 12])
@pytest.mark.parametrize("lower", [1e-3, 0.1])
def test_more_polynomials_are_never_worse(steps: int, lower: float) -> None:
    grid = np.geomspace(lower, 1, 2001)
    fewer = composition(polar_express_coefficients(steps, lower, 0.0, 1.0), grid)
    more = composition(polar_express_coefficients(steps + 1, lower, 0.0, 1.0), grid)
    assert abs(1 - more).max() <= abs(1 - fewer).max() + 1e-12
