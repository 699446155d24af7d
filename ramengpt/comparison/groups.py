"""Groups of runs that are the same but for the seed: one row, one mean curve."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ramengpt.comparison.runs import ComparedRun, Curve

NOT_OF_THE_KIND = ("seed", "data_path", "environments", "slice_sequences")
"""Parameters in which runs of one group may differ: the seed, and where they were computed."""


@dataclass(frozen=True)
class RunGroup:
    """Runs with the same parameters and different seeds; at least one.

    Attributes:
        name: what their names have in common.
        runs: in the order in which they were named.
    """

    name: str
    runs: tuple[ComparedRun, ...]

    def values(self, metric: str) -> list[float]:
        """A number of metrics.json, of the runs that have it."""
        return [run.metrics[metric] for run in self.runs if metric in run.metrics]

    def mean(self, metric: str) -> float | None:
        """The mean of those; None if no run has it."""
        values = self.values(metric)
        return fmean(values) if values else None

    def by_seed(self, metric: str) -> dict[int, float]:
        """The same values by seed; a run alone may have none and gets a number that no seed is."""
        return {
            run.params.get("seed", -1): run.metrics[metric]
            for run in self.runs
            if metric in run.metrics
        }

    def seeds(self) -> str:
        """All seeds, as text."""
        return ", ".join(str(run.params.get("seed", "-")) for run in self.runs)


def group_runs(runs: Sequence[ComparedRun]) -> list[RunGroup]:
    """Put runs that differ in the seed only together, in the order of each group's first run.

    A run that repeats another's seed is a group of its own: it is the same run, not one more.
    """
    groups: list[list[ComparedRun]] = []
    for run in runs:
        members = next((group for group in groups if _belongs(run, group)), None)
        if members is None:
            groups.append([run])
        else:
            members.append(run)
    shared = [_shared_name([run.name for run in members]) for members in groups]
    return [
        RunGroup(name if shared.count(name) == 1 else members[0].name, tuple(members))
        for name, members in zip(shared, groups, strict=True)
    ]


def _belongs(run: ComparedRun, members: Sequence[ComparedRun]) -> bool:
    """Whether a run is one more of a group."""
    seed = run.params.get("seed")
    taken = {member.params.get("seed") for member in members}
    has_seed = seed is not None and None not in taken
    return has_seed and seed not in taken and _kind(run) == _kind(members[0])


def _kind(run: ComparedRun) -> dict[str, Any]:
    return {name: value for name, value in run.params.items() if name not in NOT_OF_THE_KIND}


def _shared_name(names: Sequence[str]) -> str:
    """What several names begin with, without the number that tells them apart."""
    if len(names) == 1:
        return names[0]
    shared = os.path.commonprefix(names)  # noqa: RUF071 (characters are what is wanted)
    return shared.rstrip("0123456789").rstrip("-_./ =") or names[0]


def first_step_seconds(group: RunGroup) -> float:
    """Mean time of the first step, which compiles: that depends on caches, not on the run."""
    starts = [run.train[0].get("seconds", 0.0) for run in group.runs if run.train]
    return sum(starts) / len(starts) if starts else 0.0


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean of several curves at the steps of the first, where all have values.

    Returns:
        Rows with the mean of every column that all have, and `loss_deviation`, the sample standard
        deviation of the loss. Curves with other steps are interpolated linearly.
    """
    curves = [curve for curve in curves if curve]
    if len(curves) < 2:
        return [row for curve in curves for row in curve]
    return list(_mean_rows(curves))


def _mean_rows(curves: Sequence[Curve]) -> Iterator[dict[str, float]]:
    import numpy as np

    columns = [name for name in curves[0][0] if all(name in row for c in curves for row in c)]
    steps = [[row["step"] for row in curve] for curve in curves]
    first, last = max(each[0] for each in steps), min(each[-1] for each in steps)
    at = [step for step in steps[0] if first <= step <= last]
    values = {
        name: np.array(
            [
                np.interp(at, own_steps, [row[name] for row in curve])
                for own_steps, curve in zip(steps, curves, strict=True)
            ]
        )
        for name in columns
    }
    means = {name: value.mean(axis=0) for name, value in values.items()}
    means["loss_deviation"] = values["loss"].std(axis=0, ddof=1)
    for number in range(len(at)):
        yield {name: float(mean[number]) for name, mean in means.items()}
