"""The tables of a comparison: the results of each run, and the parameters that differ."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ramengpt.comparison.runs import ComparedRun, Curve, params_that_differ
from ramengpt.progress import duration, scaled

NONE = "-"


@dataclass(frozen=True)
class TextTable:
    """Cells as they are shown; the first row is the header."""

    header: list[str]
    rows: list[list[str]]


def results_table(runs: list[ComparedRun]) -> TextTable:
    """One row per run; differences are from the first run."""
    first = runs[0].metrics
    header = [
        "run",
        "validation loss",
        "Δ",
        "training loss",
        "tokens",
        "time",
        "Δ",
        "tokens/s",
        "Δ",
    ]
    rows = []
    for run in runs:
        get = run.metrics.get
        base = {} if run is runs[0] else first
        rows.append(
            [
                run.name,
                _show(get("validation.loss"), "{:.4f}".format),
                _difference(get("validation.loss"), base.get("validation.loss")),
                _show(get("train.loss"), "{:.4f}".format),
                _show(get("tokens"), _short),
                _show(get("seconds"), duration),
                _percent(get("seconds"), base.get("seconds")),
                _show(get("speed.tokens_per_second"), _short),
                _percent(get("speed.tokens_per_second"), base.get("speed.tokens_per_second")),
            ]
        )
    return TextTable(header, rows)


def reached_table(runs: list[ComparedRun]) -> TextTable:
    """When each run first reached the final validation loss of the first run.

    Empty if there is nothing to compare.
    """
    target = runs[0].metrics.get("validation.loss")
    if target is None or len(runs) < 2:
        return TextTable([], [])
    rows = []
    for run in runs:
        # The table rounds a loss to nine digits; metrics.json does not.
        row = first_at_most(run.validation, target + 1e-6) or {}
        rows.append(
            [
                run.name,
                _show(row.get("step"), "{:.0f}".format),
                _show(row.get("tokens"), _short),
                _show(row.get("seconds"), duration),
            ]
        )
    return TextTable([f"validation loss {target:.4f} after", "steps", "tokens", "time"], rows)


def params_table(runs: list[ComparedRun]) -> TextTable:
    """One row per parameter that differs, one column per run."""
    rows = [
        [name, *(NONE if value is None else str(value) for value in values)]
        for name, values in params_that_differ(runs).items()
    ]
    return TextTable(["parameter", *(run.name for run in runs)], rows)


def first_at_most(validation: Curve, loss: float) -> dict[str, float] | None:
    """Where a curve first falls to a loss, by linear interpolation; None if it never does.

    Returns:
        The row there, interpolated in every column that both neighbours have.
    """
    before: dict[str, float] = {}
    for row in validation:
        if row["loss"] <= loss:
            if not before:
                return row
            share = (before["loss"] - loss) / (before["loss"] - row["loss"])
            return {
                name: before[name] + share * (value - before[name])
                for name, value in row.items()
                if name in before
            }
        before = row
    return None


def _show(value: Any, write: Callable[[Any], str]) -> str:
    return NONE if value is None else write(value)


def _short(quantity: float) -> str:
    return scaled(quantity, "").strip()


def _difference(value: Any, base: Any) -> str:
    return NONE if value is None or base is None else f"{value - base:+.4f}"


def _percent(value: Any, base: Any) -> str:
    return NONE if value is None or not base else f"{value / base - 1:+.1%}"
