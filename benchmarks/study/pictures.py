"""The study's curves: mean held-out loss of each arm, with a band of its standard deviation."""

import io
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from benchmarks.run_record import DONE, Entries, Entry
from benchmarks.study.protocol import loss_of
from benchmarks.study.tables import BASELINES, arms_of, tokens_to
from ramengpt.comparison.pictures import COLOURS
from ramengpt.files import write_bytes
from ramengpt.progress import scaled

SHOWN_FROM = 0.25
"""Of the run: before it, all curves fall alike."""
INK, GREY, PALE = "#24292f", "#6e7781", "#d8dee4"
BASELINE_LINES = dict(zip(BASELINES, ("--", ":"), strict=True))
SECOND_LINE = "-."
"""Of the arms whose colours another arm has already."""
Points = list[tuple[float, float, float]]
"""Of a curve: place on the x axis, mean loss, standard deviation."""
LABEL_HEIGHT = 0.056
"""Of the axes; names at the ends of curves stand at least so far apart."""


def write_pictures(folder: Path, about: Mapping[str, Any], entries: Entries) -> None:
    """Draw loss by tokens, and by seconds of those arms that were timed alone."""
    arms = {
        name: list(runs.values())
        for name, runs in arms_of(about, entries, 1).items()
        if all(run["status"] == DONE for run in runs.values())
    }
    if not arms:
        return
    colours = cycle(COLOURS)
    shades = {name: GREY if name in BASELINES else next(colours) for name in arms}
    by_tokens = _draw(arms, dict.fromkeys(arms, 1.0), shades, "tokens")
    write_bytes(folder / "study_by_tokens.svg", by_tokens)
    timed = {name: entries.get(f"{name}-timed", {}) for name in arms}
    timed = {name: run for name, run in timed.items() if run.get("status") == DONE}
    if timed:
        speeds = {name: run["tokens_per_second"] for name, run in timed.items()}
        card = next(iter(timed.values()))["card"] or "CPU"
        shown = {name: arms[name] for name in timed}
        by_seconds = _draw(shown, speeds, shades, "seconds", f" of training on one {card}")
        write_bytes(folder / "study_by_seconds.svg", by_seconds)


def _draw(
    arms: Mapping[str, list[Entry]],
    divisors: Mapping[str, float],
    shades: Mapping[str, str],
    unit: str,
    where: str = "",
) -> bytes:
    """One curve per arm, the baselines in grey; `divisors` turn tokens into the x axis's unit."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "ramengpt", "font.size": 10.5, "text.color": INK}):
        figure = Figure(figsize=(8.6, 4.4), layout="constrained")
        axes = figure.subplots()
        curves = {name: _mean_curve(runs, divisors[name]) for name, runs in arms.items()}
        for number, (name, points) in enumerate(curves.items()):
            x, means, deviations = np.array(points).T
            taken = shades[name] in [shades[other] for other in list(curves)[:number]]
            line = BASELINE_LINES.get(name, SECOND_LINE if taken else "-")
            axes.plot(
                x, means, color=shades[name], linestyle=line, linewidth=2, gid=f"curve-{name}"
            )
            band = means - deviations, means + deviations
            axes.fill_between(x, *band, color=shades[name], alpha=0.13, linewidth=0)
        _frame(axes, curves, unit)
        axes.set_xlabel(unit + where, color=INK)
        _name_curves(axes, curves, shades)
        _mark_baseline(axes, arms, divisors, shades, unit)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _frame(axes: Any, curves: Mapping[str, Points], unit: str) -> None:
    """Limits, ticks and grid; the first baseline may come in from above."""
    from matplotlib.ticker import EngFormatter

    ends = [points[-1][1] for points in curves.values()]
    starts = [points[0][1] for name, points in curves.items() if name != BASELINES[0]]
    axes.set_ylim(min(ends) - 0.05, max(ends + starts) + 0.01)
    first = min(points[0][0] for points in curves.values())
    axes.set_xlim(first, max(points[-1][0] for points in curves.values()) * 1.005)
    axes.set_title("held-out loss (nats/token)", loc="left", fontsize=10.5)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" " if unit == "tokens" else ""))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(PALE)
    axes.tick_params(color=PALE, labelcolor=GREY)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=PALE, linewidth=0.7)


def _name_curves(axes: Any, curves: Mapping[str, Points], shades: Mapping[str, str]) -> None:
    """Write each arm's name and last loss beside the end of its curve, moved up where crowded."""
    bottom, top = axes.get_ylim()
    height = LABEL_HEIGHT * (top - bottom)
    at = bottom - height
    for name in sorted(curves, key=lambda name: curves[name][-1][1]):
        loss = curves[name][-1][1]
        at = max(at + height, loss)
        axes.annotate(
            f"{name}  {loss:.3f}", (1.015, at), xycoords=("axes fraction", "data"),
            color=shades[name], va="center", annotation_clip=False,
        )  # fmt: skip


def _mark_baseline(
    axes: Any,
    arms: Mapping[str, list[Entry]],
    divisors: Mapping[str, float],
    shades: Mapping[str, str],
    unit: str,
) -> None:
    """Draw the first baseline's last loss as a line, and a dot where each arm reaches it.

    The first one's dot says when.
    """
    if BASELINES[0] not in arms:
        return
    baseline, *_ = BASELINES
    target = fmean(loss_of(run) for run in arms[baseline])
    axes.axhline(target, color=GREY, linewidth=0.8)
    reached = {name: tokens_to(runs, target) for name, runs in arms.items() if name != baseline}
    at = {name: tokens / divisors[name] for name, tokens in reached.items() if tokens is not None}
    for name, place in at.items():
        axes.plot(place, target, "o", color=shades[name], gid=f"dot-{name}")
    if at:
        first = min(at, key=at.__getitem__)
        axes.annotate(
            scaled(at[first], unit), (at[first], target), (-6, -14), textcoords="offset points",
            ha="right", color=shades[first],
        )  # fmt: skip


def _mean_curve(runs: list[Entry], divisor: float) -> Points:
    """The points at which the runs were validated."""
    curves = zip(*(run["validation"] for run in runs), strict=True)
    shown = [(points[0][0], [loss for _, loss in points]) for points in curves]
    first = SHOWN_FROM * shown[-1][0]
    return [(at / divisor, fmean(each), stdev(each)) for at, each in shown if at >= first]
