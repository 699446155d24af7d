"""Means with intervals, two-sided t tests of two groups of runs, and Holm's correction for many.

Runs that share a seed, and so their initial weights and their order of data, are compared in pairs;
without common seeds Welch's test applies. A p-value is that of one comparison; for all those of a
study, take Holm's (S. Holm, A simple sequentially rejective multiple test procedure, 1979).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev


@dataclass(frozen=True)
class Mean:
    """The mean of some values.

    Attributes:
        value: the mean.
        deviation: sample standard deviation; NaN of a single value.
        half_width: of the mean's two-sided confidence interval; NaN of a single value.
        count: of values.
    """

    value: float
    deviation: float
    half_width: float
    count: int


@dataclass(frozen=True)
class Difference:
    """How much lower or higher one group is than another, and how sure that is.

    Attributes:
        value: mean of the group minus mean of the baseline.
        standard_error: of the value; NaN where the groups are too small.
        degrees_of_freedom: of the t distribution; NaN likewise.
        p_value: two-sided, of no difference; NaN likewise.
        half_width: of the value's two-sided confidence interval; NaN likewise.
        pairs: compared; 0 by Welch's test.
    """

    value: float
    standard_error: float
    degrees_of_freedom: float
    p_value: float
    half_width: float
    pairs: int


def mean_of(values: Sequence[float], confidence: float) -> Mean:
    """The mean of at least one value, with a t interval.

    Args:
        values: in any unit.
        confidence: of the interval, between 0 and 1.
    """
    if len(values) < 2:
        return Mean(fmean(values), math.nan, math.nan, len(values))
    deviation = stdev(values)
    error = deviation / math.sqrt(len(values))
    return Mean(
        fmean(values), deviation, error * t_quantile(confidence, len(values) - 1), len(values)
    )


def paired_t(
    group: Mapping[int, float], baseline: Mapping[int, float], confidence: float
) -> Difference:
    """Student's paired t test over the seeds that both have.

    Args:
        group: values by seed.
        baseline: the same of what it is compared with.
        confidence: of the interval, between 0 and 1.

    Raises:
        ValueError: no seed in common.
    """
    differences = [value - baseline[seed] for seed, value in group.items() if seed in baseline]
    if not differences:
        raise ValueError("no seed in common")
    count = len(differences)
    error = stdev(differences) / math.sqrt(count) if count > 1 else math.nan
    freedom = count - 1 if count > 1 else math.nan
    return _difference(fmean(differences), error, freedom, confidence, count)


def welch_t(group: Sequence[float], baseline: Sequence[float], confidence: float) -> Difference:
    """Welch's t test of two groups of at least one value each, whose spreads may differ."""
    value = fmean(group) - fmean(baseline)
    if min(len(group), len(baseline)) < 2:
        return _difference(value, math.nan, math.nan, confidence, 0)
    shares = [stdev(values) ** 2 / len(values) for values in (group, baseline)]
    error = math.sqrt(sum(shares))
    spread = sum(
        share**2 / (len(values) - 1)
        for share, values in zip(shares, (group, baseline), strict=True)
    )
    freedom = error**4 / spread if spread else float(len(group) + len(baseline) - 2)
    return _difference(value, error, freedom, confidence, 0)


def difference_by_seed(
    group: Mapping[int, float], baseline: Mapping[int, float], confidence: float
) -> Difference:
    """Paired where at least two seeds are common to both, else Welch's; values by seed."""
    if len(group.keys() & baseline.keys()) > 1:
        return paired_t(group, baseline, confidence)
    return welch_t(list(group.values()), list(baseline.values()), confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several comparisons, in the order given.

    One below 0.05 afterwards is significant at 5 % for all of them together. NaN, of what could not
    be tested, stays and does not count.
    """
    tested = sorted(
        (index for index, p_value in enumerate(p_values) if not math.isnan(p_value)),
        key=lambda index: p_values[index],
    )
    adjusted = list(p_values)
    largest = 0.0
    for rank, index in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@cache
def t_quantile(confidence: float, degrees_of_freedom: float) -> float:
    """Standard errors on each side of a mean that a two-sided interval takes."""
    below, above = 0.0, 1.0
    while t_p_value(above, degrees_of_freedom) > 1 - confidence:
        below, above = above, 2 * above
    while below < (middle := (below + above) / 2) < above:
        if t_p_value(middle, degrees_of_freedom) > 1 - confidence:
            below = middle
        else:
            above = middle
    return above


def t_p_value(t: float, degrees_of_freedom: float) -> float:
    """Two-sided p-value of a t statistic, by the incomplete beta function."""
    from mpmath import betainc  # comes with PyTorch

    share = degrees_of_freedom / (degrees_of_freedom + t * t)
    return float(betainc(degrees_of_freedom / 2, 0.5, 0, share, regularized=True))


def _difference(
    value: float, error: float, freedom: float, confidence: float, pairs: int
) -> Difference:
    if math.isnan(error):
        return Difference(value, error, freedom, math.nan, math.nan, pairs)
    if error == 0:  # no spread at all: equal groups agree, others differ for certain
        return Difference(value, error, freedom, 1.0 if value == 0 else 0.0, 0.0, pairs)
    p_value = t_p_value(value / error, freedom)
    half_width = error * t_quantile(confidence, freedom)
    return Difference(value, error, freedom, p_value, half_width, pairs)
