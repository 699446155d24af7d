"""Tests of two groups against scipy.stats, by hand and by their properties."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ramengpt.comparison.statistics import (
    difference_by_seed,
    holm,
    mean_of,
    paired_t,
    t_quantile,
    welch_t,
)

losses = st.floats(1.0, 10.0).map(lambda loss: round(loss, 4))
groups = st.lists(losses, min_size=2, max_size=12, unique=True)


@settings(deadline=None)
@given(groups, groups)
def test_welch_is_that_of_scipy(group: list[float], baseline: list[float]) -> None:
    expected = stats.ttest_ind(group, baseline, equal_var=False)
    interval = expected.confidence_interval(0.9)
    found = welch_t(group, baseline, 0.9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert found.degrees_of_freedom == pytest.approx(expected.df)
    assert found.value - found.half_width == pytest.approx(interval.low, abs=1e-9)
    assert found.value + found.half_width == pytest.approx(interval.high, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(losses, losses), min_size=2, max_size=12))
def test_the_paired_test_is_that_of_scipy(pairs: list[tuple[float, float]]) -> None:
    group, baseline = (dict(enumerate(values)) for values in zip(*pairs, strict=True))
    found = paired_t(group, baseline, 0.95)
    if found.standard_error < 1e-9:
        return  # scipy divides by rounding errors
    expected = stats.ttest_rel(list(group.values()), list(baseline.values()))
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert found.pairs == len(pairs)


def test_pairs_are_the_common_seeds() -> None:
    # Differences 1.0, 2.0: mean 1.5, standard error 0.5; t is 3 with one degree of freedom, where
    # the distribution is Cauchy's: p = 1 - 2 atan(3) / pi.
    found = paired_t({1: 3.0, 2: 5.0, 7: 90.0}, {2: 3.0, 1: 2.0, 9: -90.0}, 0.95)
    assert (found.value, found.standard_error, found.pairs) == (1.5, 0.5, 2)
    assert found.p_value == pytest.approx(1 - 2 * math.atan(3) / math.pi)
    with pytest.raises(ValueError, match="no seed in common"):
        paired_t({1: 3.0}, {2: 3.0}, 0.95)


def test_pairs_are_taken_where_seeds_are_shared() -> None:
    assert difference_by_seed({1: 2.0, 2: 3.0}, {1: 1.0, 2: 2.5}, 0.95).pairs == 2
    assert difference_by_seed({1: 2.0, 2: 3.0}, {3: 1.0, 2: 2.5}, 0.95).pairs == 0


def test_a_single_run_has_no_spread_and_no_test() -> None:
    for found in (paired_t({1: 3.0}, {1: 2.0}, 0.95), welch_t([3.0], [2.0, 2.0], 0.95)):
        assert found.value == 1.0
        assert math.isnan(found.p_value) and math.isnan(found.half_width)
    mean = mean_of([3.0], 0.95)
    assert mean.value == 3.0 and math.isnan(mean.deviation) and math.isnan(mean.half_width)


def test_groups_without_spread() -> None:
    assert paired_t({1: 1.0, 2: 2.0}, {1: 1.0, 2: 2.0}, 0.95).p_value == 1.0
    assert welch_t([2.0, 2.0], [1.0, 1.0], 0.95).p_value == 0.0


def test_the_interval_of_a_mean() -> None:
    mean = mean_of([1.0, 2.0, 3.0], 0.95)
    assert (mean.value, mean.deviation, mean.count) == (2.0, 1.0, 3)
    assert mean.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # from a t table
    assert t_quantile(0.95, 9) == pytest.approx(2.262157, rel=1e-6)


def test_holm_by_hand() -> None:
    # In order: 0.01 x 4, 0.02 x 3, 0.03 x 2 = 0.06 stays, 0.04 x 1 is raised to what went before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    adjusted = holm([0.01, math.nan, 0.6])
    assert adjusted[0] == pytest.approx(0.02) and adjusted[2] == pytest.approx(0.6)
    assert math.isnan(adjusted[1])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_lies_below_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for found, p_value in zip(adjusted, p_values, strict=True):
        assert p_value <= found <= min(1.0, len(p_values) * p_value)
    in_order = [found for _, found in sorted(zip(p_values, adjusted, strict=True))]
    assert in_order == sorted(in_order)
