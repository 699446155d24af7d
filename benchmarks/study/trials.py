"""Which values to try next: a pure function of what has been tried.

Half of a stage's trials are params.yaml's point and points of a scrambled Sobol sequence, the same
for every arm but for the ranges. The others come in rounds of two, proposed by a Gaussian process
(optuna's GPSampler, which also keeps the two apart). Before each, ranges whose best value lies at
an edge are widened.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from benchmarks.study.space import Dimension, Space, Values

SAMPLER_SEED = 1
LATER_ROUND = 2
"""Trials of every round but the first: a GPU is busy with other arms meanwhile."""
WORSE_BY = 0.3
"""Nats/token above the best at which losses are cut off for the model of the search: how bad a bad
or diverged trial was says nothing about where the best one lies."""


@dataclass(frozen=True)
class Trial:
    """A point that was tried.

    Attributes:
        values: of the stage's dimensions, in order.
        loss: infinite where training diverged.
    """

    values: tuple[float, ...]
    loss: float


def rounds_of(trials: int) -> list[range]:
    """The numbers of a stage's trials, round by round."""
    first = trials - trials // 2
    later = range(first, trials, LATER_ROUND)
    return [range(first), *(range(n, min(n + LATER_ROUND, trials)) for n in later)]


def including(space: Space, tried: Sequence[Trial]) -> Space:
    """The ranges, reaching as far as what was tried."""
    columns = zip(*(trial.values for trial in tried), strict=True)
    return tuple(
        replace(dimension, low=min(dimension.low, *column), high=max(dimension.high, *column))
        if column
        else dimension
        for dimension, column in zip(space, columns, strict=True)
    )


def widened(space: Space, tried: Sequence[Trial]) -> Space:
    """The ranges after a round: longer where the best value lies at an edge."""
    best = best_of(tried)
    return tuple(
        dimension.widened(value) for dimension, value in zip(space, best.values, strict=True)
    )


def best_of(tried: Sequence[Trial]) -> Trial:
    """The trial with the lowest loss; of equals the first."""
    return min(tried, key=lambda trial: trial.loss)


@lru_cache(maxsize=1000)
def first_round(space: Space, start: tuple[float, ...] | None, count: int) -> tuple[Values, ...]:
    """Points that fill the space, after the one to start from if that is given."""
    from torch.quasirandom import SobolEngine

    points = [] if start is None else [_named(space, start)]
    shares = SobolEngine(len(space), scramble=True, seed=SAMPLER_SEED).draw(count - len(points))
    return (*points, *(_named(space, _at(space, row)) for row in shares.tolist()))


def _at(space: Space, shares: Sequence[float]) -> list[float]:
    """The point that lies so far along each range."""
    return [dimension.at(share) for dimension, share in zip(space, shares, strict=True)]


@lru_cache(maxsize=1000)
def later_round(space: Space, tried: tuple[Trial, ...], count: int) -> tuple[Values, ...]:
    """Points at which an improvement over what was tried is expected, given the others."""
    import optuna
    from optuna.samplers import GPSampler
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {dimension.name: _distribution(dimension) for dimension in space}
    study = optuna.create_study(sampler=GPSampler(seed=SAMPLER_SEED, n_startup_trials=0))
    best = best_of(tried).loss
    for trial in tried:
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                value=0.0 if best == math.inf else min(trial.loss, best + WORSE_BY),
                params=_params(space, trial.values),
                distributions=distributions,
            )
        )
    asked = [study.ask(distributions).params for _ in range(count)]
    return tuple(
        {dimension.name: dimension.rounded(params[dimension.name]) for dimension in space}
        for params in asked
    )


def _params(space: Space, values: Sequence[float]) -> dict[str, Any]:
    return {
        dimension.name: int(value) if dimension.whole else value
        for dimension, value in zip(space, values, strict=True)
    }


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high))
    return FloatDistribution(dimension.low, dimension.high, log=True)


def _named(space: Space, values: Sequence[float]) -> Values:
    return {dimension.name: value for dimension, value in zip(space, values, strict=True)}
