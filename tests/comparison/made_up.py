"""Compared runs made of a few losses."""

from ramengpt.comparison.groups import RunGroup, group_runs
from ramengpt.comparison.runs import ComparedRun


def compared(
    name: str, losses: list[float], seconds: float = 100.0, **params: object
) -> ComparedRun:
    rows = [{"step": 10 * n, "tokens": 1000 * n, "loss": loss} for n, loss in enumerate(losses, 1)]
    metrics = {"validation.loss": losses[-1], "seconds": seconds}
    return ComparedRun(name, metrics, params, rows, rows)


def grouped(*runs: ComparedRun) -> list[RunGroup]:
    return group_runs(runs)
