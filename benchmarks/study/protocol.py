"""The protocol: which runs a study wants, given those that have ended.

Every arm is tuned by the same number of trials, all with one selection seed: first the hidden
matrices' rate and decay, then, at the best of these, all else. The best trial of all is evaluated
with fresh seeds, the same for all arms; each draws other initial weights and another order of the
data. One more run has a GPU to itself and gives the speed; runs of other lengths may follow. What
an arm needs comes before the next arm, so that a study that is cut short is one of fewer arms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.run_record import DIVERGED, DONE, Entries, Entry, Run
from benchmarks.study.arms import STAGES, Arm, start_of
from benchmarks.study.space import Space, Values
from benchmarks.study.task import SELECTION_SEED, Task, evaluation_seeds
from benchmarks.study.trials import (
    Trial,
    best_of,
    first_round,
    including,
    later_round,
    rounds_of,
    widened,
)
from ramengpt.errors import UserError

LEAST_TRIALS = 4
"""Of a stage: params.yaml's point and another, then two proposed ones."""


@dataclass(frozen=True)
class Study:
    """What is compared, and how thoroughly.

    Attributes:
        task: that all runs train.
        arms: in the order in which they are needed.
        trials: of every arm, in each of the two stages of its search.
        seeds: of every arm's evaluation.
        timed: whether every arm has a GPU to itself once.
        lengths: of further evaluations, in multiples of the task's.
        settings: `key=value` each, of all runs, beside the task's.

    Raises:
        UserError: too few trials or seeds for what is done with them.
    """

    task: Task
    arms: tuple[Arm, ...]
    trials: tuple[int, int]
    seeds: int
    timed: bool
    lengths: tuple[int, ...]
    settings: tuple[str, ...]

    def __post_init__(self) -> None:
        if min(self.trials) < LEAST_TRIALS:
            raise UserError(f"--trials: expected at least {LEAST_TRIALS} in each stage")
        if self.seeds < 2:
            raise UserError(f"--seeds: expected at least 2, found {self.seeds}")

    @property
    def shared_settings(self) -> tuple[str, ...]:
        """Of all runs of the task's own length."""
        return (*self.task.lasting(1), *self.settings)

    def runs(self, entries: Entries) -> list[Run]:
        """All runs that are wanted so far, in the order in which to start them."""
        wanted = [run for arm in self.arms for run in self._runs_of(arm, entries)]
        for times in self.lengths:
            wanted += [run for arm in self.arms for run in self._evaluations(arm, entries, times)]
        if self.timed:
            wanted += [run for arm in self.arms for run in self._timed(arm, entries)]
        return wanted

    def _runs_of(self, arm: Arm, entries: Entries) -> list[Run]:
        return [*search_of(self, arm, entries).runs, *self._evaluations(arm, entries, 1)]

    def _evaluations(self, arm: Arm, entries: Entries, times: int) -> list[Run]:
        best = search_of(self, arm, entries).best
        if best is None:
            return []
        longer = self.task.lasting(times) if times > 1 else ()
        settings = (*arm.settings(best), *longer, self.task.validated(times, often=True))
        labels = {"stage": "seeds", "arm": arm.name, "times": times, "values": dict(best)}
        return [
            Run(f"{arm.name}-{times}x-{seed}", seed, settings, labels)
            for seed in evaluation_seeds(self.seeds)
        ]

    def _timed(self, arm: Arm, entries: Entries) -> list[Run]:
        best = search_of(self, arm, entries).best
        if best is None:
            return []
        settings = (*arm.settings(best), self.task.validated(1, often=False))
        labels = {"stage": "timed", "arm": arm.name, "values": dict(best)}
        (seed,) = evaluation_seeds(1)
        return [Run(f"{arm.name}-timed", seed, settings, labels, alone=True)]


@dataclass(frozen=True)
class Search:
    """How far the search of an arm is.

    Attributes:
        runs: of all trials that are wanted so far.
        best: values of the best trial once all have ended; None before, or if all diverged.
    """

    runs: list[Run]
    best: Values | None


@dataclass(frozen=True)
class Place:
    """Where in its search an arm is.

    Attributes:
        arm: that is searched.
        stage: of its search.
        space: in which the round's points lie.
        start: values of params.yaml.
        found: values that earlier stages have found.
    """

    arm: Arm
    stage: str
    space: Space
    start: Values
    found: Values


def search_of(study: Study, arm: Arm, entries: Entries) -> Search:
    """The trials of an arm: what was recorded is kept, what follows from it is added."""
    runs: list[Run] = []
    found: Values = {}
    start = _start_of(study, arm, entries)
    best_loss = math.inf
    for stage, count in zip(STAGES, study.trials, strict=True):
        space = arm.space(stage)
        names = [dimension.name for dimension in space]
        own_start = tuple(start[name] for name in names)
        tried = [] if stage == "rates" else [Trial(own_start, best_loss)]
        for numbers in rounds_of(count):
            if numbers.start > 0:
                space = including(widened(space, tried), tried)
                proposed = later_round(space, tuple(tried), len(numbers))
            else:
                begin = own_start if stage == STAGES[0] else None
                proposed = first_round(space, begin, len(numbers))
            at = Place(arm, stage, space, start, found)
            trials = [
                _trial_run(study, at, number, values, entries)
                for number, values in zip(numbers, proposed, strict=True)
            ]
            runs += trials
            ended = [entries[run.name] for run in trials if _has_ended(entries.get(run.name))]
            tried += [
                Trial(tuple(entry["values"][name] for name in names), loss_of(entry))
                for entry in ended
            ]
            if len(ended) < len(trials):
                return Search(runs, None)
        best = best_of(tried)
        if best.loss == math.inf:
            return Search(runs, None)
        best_loss = best.loss
        found = {**found, **dict(zip(names, best.values, strict=True))}
    return Search(runs, found)


def _trial_run(study: Study, at: Place, number: int, proposed: Values, entries: Entries) -> Run:
    """A trial; one that was recorded keeps its values, whatever would be proposed today."""
    name = f"{at.arm.name}-{at.stage}-{number}"
    labels: dict[str, Any] = {
        "stage": at.stage,
        "arm": at.arm.name,
        "trial": number,
        "values": {**at.found, **proposed},
        "ranges": {each.name: [each.low, each.high] for each in at.space},
    }
    if (at.stage, number) == (STAGES[0], 0):
        labels["start"] = dict(at.start)
    if name in entries:
        labels = {key: entries[name][key] for key in labels}
    settings = (*at.arm.settings(labels["values"]), study.task.validated(1, often=False))
    return Run(name, SELECTION_SEED, settings, labels)


def _start_of(study: Study, arm: Arm, entries: Entries) -> Values:
    """Where the search began, according to the record; else where params.yaml is now."""
    first = entries.get(f"{arm.name}-{STAGES[0]}-0")
    return start_of(arm, study.shared_settings) if first is None else first["start"]


def _has_ended(entry: Entry | None) -> bool:
    return entry is not None and entry["status"] in (DONE, DIVERGED)


def loss_of(entry: Entry) -> float:
    """Held-out loss of a run, infinite where training diverged."""
    return float(entry["validation_loss"]) if entry["status"] == DONE else math.inf


def evaluated(entries: Entries, arm: str, times: int) -> dict[int, Entry]:
    """The evaluations of an arm that have ended, by seed."""
    return {
        entry["seed"]: entry
        for entry in entries.values()
        if entry["stage"] == "seeds"
        and (entry["arm"], entry["times"]) == (arm, times)
        and _has_ended(entry)
    }


def trials_of(entries: Entries, arm: str, stages: Sequence[str]) -> list[Entry]:
    """The trials of an arm that have ended, in order."""
    return [
        entry
        for entry in entries.values()
        if entry["stage"] in stages and entry["arm"] == arm and _has_ended(entry)
    ]
