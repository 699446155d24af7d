"""Loss curves of several groups of runs against steps, tokens and seconds, as SVG."""

import io
import math
from dataclasses import dataclass
from typing import Any

from ramengpt.comparison.groups import RunGroup, first_step_seconds, mean_curve
from ramengpt.comparison.runs import Curve

AXES = {"step": "steps", "tokens": "tokens", "seconds": "seconds of training after the first step"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")
LINES = ("-", "--", "-.", ":")
MOST_POINTS = 1500
"""Points of a training curve; longer curves are thinned."""
SMOOTHED_SHARE = 0.02
"""Width of the moving average over training losses, as a share of the run's steps."""


@dataclass(frozen=True)
class Picture:
    """A file of the comparison."""

    name: str
    title: str
    svg: bytes


@dataclass(frozen=True)
class GroupCurves:
    """What is drawn of a group.

    Attributes:
        name: of the group.
        train: smoothed, mean over its runs.
        validation: mean, with the deviation where there are several runs.
        first_step_seconds: of the first step.
    """

    name: str
    train: Curve
    validation: Curve
    first_step_seconds: float


def loss_pictures(groups: list[RunGroup]) -> list[Picture]:
    """Draw one picture for each x axis that any run has values for."""
    drawn = [
        GroupCurves(
            group.name,
            mean_curve([smoothed(run.train) for run in group.runs]),
            mean_curve([run.validation for run in group.runs]),
            first_step_seconds(group),
        )
        for group in groups
    ]
    return [
        Picture(f"loss_by_{column}.svg", f"Loss by {label}", _draw(drawn, column, label))
        for column, label in AXES.items()
        if any(column in row for each in drawn for row in each.train[:1] + each.validation[:1])
    ]


def _draw(groups: list[GroupCurves], column: str, label: str) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    with rc_context({"svg.hashsalt": "ramengpt", "font.size": 10, "axes.edgecolor": "#888888"}):
        figure = Figure(figsize=(8.0, 4.6), layout="constrained")
        axes = figure.subplots()
        for number, group in enumerate(groups):
            colour = COLOURS[number % len(COLOURS)]
            line = LINES[number // len(COLOURS) % len(LINES)]
            thin: dict[str, Any] = {"color": colour, "linestyle": line, "alpha": 0.3}
            start = group.first_step_seconds if column == "seconds" else 0.0
            axes.plot(*_curve(group.train, column, start), linewidth=1.0, **thin)
            axes.plot(
                *_curve(group.validation, column, start),
                color=colour, linestyle=line, linewidth=1.8, marker="o", markersize=3.5,
                label=group.name,
            )  # fmt: skip
            _draw_band(axes, group.validation, column, start, colour)
        axes.set_ylim(*_loss_range(groups))
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
        axes.set_ylabel("loss (nats/token)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=" " if column == "tokens" else ""))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.legend(frameon=False, title="validation (thin: training)", alignment="left")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw_band(axes: Any, rows: Curve, column: str, start: float, colour: str) -> None:
    """One standard deviation on each side of a mean; nothing for a single run."""
    rows = [row for row in rows if {column, "loss_deviation"} <= row.keys()]
    if rows:
        low, high = (
            [row["loss"] + side * row["loss_deviation"] for row in rows] for side in (-1, 1)
        )
        at = [row[column] - start for row in rows]
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)


def _curve(rows: Curve, column: str, start: float) -> tuple[list[float], list[float]]:
    shown = [row for row in rows if column in row]
    return [row[column] - start for row in shown], [row["loss"] for row in shown]


def smoothed(train: Curve) -> Curve:
    """Thin a training curve; each loss becomes a trailing moving average."""
    width = max(1, int(len(train) * SMOOTHED_SHARE))
    stride = -(-len(train) // MOST_POINTS) if train else 1
    sums = [0.0]
    for row in train:
        sums.append(sums[-1] + row["loss"])
    points = []
    for end in range(width, len(train) + 1, stride):
        loss = (sums[end] - sums[end - width]) / width
        points.append({**train[end - 1], "loss": loss})
    return points


def _loss_range(groups: list[GroupCurves]) -> tuple[float, float]:
    """From just below the lowest loss to the highest that a run had after 10 % of its steps."""
    shown = [group.validation + group.train for group in groups]
    losses = [row["loss"] for rows in shown for row in rows if math.isfinite(row["loss"])]
    if not losses:
        return 0.0, 1.0
    lowest = min(losses)
    curves = [curve for group in groups if (curve := group.train or group.validation)]
    starts = [curve[len(curve) // 10]["loss"] for curve in curves]
    early = max((loss for loss in starts if math.isfinite(loss)), default=max(losses))
    margin = 0.05 * max(early - lowest, 0.1)
    return lowest - margin, early + margin
