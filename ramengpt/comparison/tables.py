"""The tables of a comparison: the results of each group of runs, and the parameters that differ.

A group is often one run: then there is no interval and no test.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ramengpt.comparison.groups import RunGroup, first_step_seconds, mean_curve
from ramengpt.comparison.runs import Curve, params_that_differ
from ramengpt.comparison.statistics import Difference, difference_by_seed, holm, mean_of
from ramengpt.progress import duration, scaled

NONE = "-"
CONFIDENCE = 0.95
LOSS = "validation.loss"
SMALLEST_P = 1e-4
"""Smaller p-values are shown as less than this."""


@dataclass(frozen=True)
class TextTable:
    """Cells as they are shown; the first row is the header."""

    header: list[str]
    rows: list[list[str]]


def has_several_runs(groups: list[RunGroup]) -> bool:
    """Whether any group has more than one run, so that there is something to test."""
    return any(len(group.runs) > 1 for group in groups)


def results_table(groups: list[RunGroup]) -> TextTable:
    """One row per group: means; differences are from the first group."""
    differences = loss_differences(groups)
    p_values = holm([each.p_value if each else math.nan for each in differences])
    header = ["run", "runs", "validation loss", "Δ", "p", "bits/byte", "training loss"]
    header += ["tokens", "time", "Δ", "tokens/s", "Δ"]
    rows = []
    for group, difference, p_value in zip(groups, differences, p_values, strict=True):
        base = None if group is groups[0] else groups[0]
        rows.append(
            [
                group.name,
                str(len(group.runs)),
                _loss(group),
                _difference(difference),
                _p_value(p_value),
                _show(group.mean("validation.bits_per_byte"), "{:.4f}".format),
                _show(group.mean("train.loss"), "{:.4f}".format),
                _show(group.mean("tokens"), _short),
                _show(group.mean("seconds"), duration),
                _percent(group, base, "seconds"),
                _show(group.mean("speed.tokens_per_second"), _short),
                _percent(group, base, "speed.tokens_per_second"),
            ]
        )
    return TextTable(header, rows) if has_several_runs(groups) else _without(header, rows)


def _without(header: list[str], rows: list[list[str]]) -> TextTable:
    """The table of single runs, which has no numbers of runs and no test."""
    kept = [number for number, name in enumerate(header) if name not in ("runs", "p")]
    return TextTable([header[n] for n in kept], [[row[n] for n in kept] for row in rows])


def loss_differences(groups: list[RunGroup]) -> list[Difference | None]:
    """Held-out loss of every group against the first one's; None for that, or without a loss."""
    first, *others = (group.by_seed(LOSS) for group in groups)
    return [
        None,
        *(
            difference_by_seed(losses, first, CONFIDENCE) if losses and first else None
            for losses in others
        ),
    ]


def reached_table(groups: list[RunGroup]) -> TextTable:
    """When the mean curve of each group first falls to the final loss of the first group.

    Empty if there is nothing to compare.
    """
    target = groups[0].mean(LOSS)
    if target is None or len(groups) < 2:
        return TextTable([], [])
    rows = []
    for group in groups:
        # The table rounds a loss to nine digits; metrics.json does not.
        curve = mean_curve([run.validation for run in group.runs])
        row = first_at_most(curve, target + 1e-6) or {}
        seconds = row["seconds"] - first_step_seconds(group) if "seconds" in row else None
        rows.append(
            [
                group.name,
                _show(row.get("step"), "{:.0f}".format),
                _show(row.get("tokens"), _short),
                _show(seconds, duration),
            ]
        )
    time = "time after the first step"
    return TextTable([f"validation loss {target:.4f} after", "steps", "tokens", time], rows)


def params_table(groups: list[RunGroup]) -> TextTable:
    """One row per parameter that differs, one column per group."""
    differ = params_that_differ([group.runs[0] for group in groups])
    if has_several_runs(groups):
        differ.pop("seed", None)
        seeds = [group.seeds() for group in groups]
        differ |= {"seed": seeds} if len(set(seeds)) > 1 else {}
    rows = [
        [name, *(NONE if value is None else str(value) for value in values)]
        for name, values in differ.items()
    ]
    return TextTable(["parameter", *(group.name for group in groups)], rows)


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


def _loss(group: RunGroup) -> str:
    values = group.values(LOSS)
    if not values:
        return NONE
    mean = mean_of(values, CONFIDENCE)
    return f"{mean.value:.4f}" + _interval(mean.half_width)


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return NONE
    return f"{difference.value:+.4f}" + _interval(difference.half_width)


def _interval(half_width: float) -> str:
    return "" if math.isnan(half_width) else f" ± {half_width:.4f}"


def _p_value(p_value: float) -> str:
    if math.isnan(p_value):
        return NONE
    return f"< {SMALLEST_P:.4f}" if p_value < SMALLEST_P else f"{p_value:.4f}"


def _percent(group: RunGroup, base: RunGroup | None, metric: str) -> str:
    value = group.mean(metric)
    reference = base.mean(metric) if base else None
    return NONE if value is None or not reference else f"{value / reference - 1:+.1%}"
