"""Loss curves of several runs against steps, tokens and seconds, as SVG."""

import io
import math
from dataclasses import dataclass
from typing import Any

from ramengpt.comparison.runs import ComparedRun, Curve

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


def loss_pictures(runs: list[ComparedRun]) -> list[Picture]:
    """Draw one picture for each x axis that any run has values for."""
    return [
        Picture(f"loss_by_{column}.svg", f"Loss by {label}", _draw(runs, column, label))
        for column, label in AXES.items()
        if any(column in row for run in runs for row in run.train[:1] + run.validation[:1])
    ]


def _draw(runs: list[ComparedRun], column: str, label: str) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    with rc_context({"svg.hashsalt": "ramengpt", "font.size": 10, "axes.edgecolor": "#888888"}):
        figure = Figure(figsize=(8.0, 4.6), layout="constrained")
        axes = figure.subplots()
        for number, run in enumerate(runs):
            colour = COLOURS[number % len(COLOURS)]
            line = LINES[number // len(COLOURS) % len(LINES)]
            thin: dict[str, Any] = {"color": colour, "linestyle": line, "alpha": 0.3}
            # The first step includes compilation, whose time depends on caches, not on the run.
            start = run.train[0].get(column, 0.0) if column == "seconds" and run.train else 0.0
            axes.plot(*_curve(smoothed(run.train), column, start), linewidth=1.0, **thin)
            axes.plot(
                *_curve(run.validation, column, start),
                color=colour, linestyle=line, linewidth=1.8, marker="o", markersize=3.5,
                label=run.name,
            )  # fmt: skip
        axes.set_ylim(*_loss_range(runs))
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


def _loss_range(runs: list[ComparedRun]) -> tuple[float, float]:
    """From just below the lowest loss to the highest that a run had after 10 % of its steps."""
    shown = [run.validation + smoothed(run.train) for run in runs]
    losses = [row["loss"] for rows in shown for row in rows if math.isfinite(row["loss"])]
    if not losses:
        return 0.0, 1.0
    lowest = min(losses)
    curves = [curve for run in runs if (curve := smoothed(run.train) or run.validation)]
    starts = [curve[len(curve) // 10]["loss"] for curve in curves]
    early = max((loss for loss in starts if math.isfinite(loss)), default=max(losses))
    margin = 0.05 * max(early - lowest, 0.1)
    return lowest - margin, early + margin
