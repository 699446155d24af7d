"""The study's curves: mean held-out loss of each arm, with a band of its standard deviation."""

import io
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.run_record import DONE, Entries, Entry
from benchmarks.study.tables import arms_of
from ramengpt.comparison.pictures import COLOURS, LINES
from ramengpt.files import write_bytes

SHOWN_FROM = 0.25
"""Of the run: before it, all curves fall alike."""


def write_pictures(folder: Path, about: Mapping[str, Any], entries: Entries) -> None:
    """Draw loss by tokens, and by seconds of those arms that were timed alone."""
    arms = {
        name: list(runs.values())
        for name, runs in arms_of(about, entries, 1).items()
        if all(run["status"] == DONE for run in runs.values())
    }
    if not arms:
        return
    write_bytes(folder / "study_by_tokens.svg", _draw(arms, dict.fromkeys(arms, 1.0), "tokens"))
    speeds = {
        name: entries[f"{name}-timed"]["tokens_per_second"]
        for name in arms
        if entries.get(f"{name}-timed", {}).get("status") == DONE
    }
    if speeds:
        timed = {name: arms[name] for name in speeds}
        by_seconds = _draw(timed, speeds, "seconds on a GPU of its own")
        write_bytes(folder / "study_by_seconds.svg", by_seconds)


def _draw(arms: Mapping[str, list[Entry]], divisors: Mapping[str, float], label: str) -> bytes:
    """One curve per arm; `divisors` turn tokens into the unit of the x axis."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    with rc_context({"svg.hashsalt": "ramengpt", "font.size": 10, "axes.edgecolor": "#888888"}):
        figure = Figure(figsize=(8.0, 4.6), layout="constrained")
        axes = figure.subplots()
        for number, (name, runs) in enumerate(arms.items()):
            colour = COLOURS[number % len(COLOURS)]
            line = LINES[number // len(COLOURS) % len(LINES)]
            points = mean_curve(runs)
            x = [tokens / divisors[name] for tokens, _, _ in points]
            means = [mean for _, mean, _ in points]
            axes.plot(x, means, color=colour, linestyle=line, linewidth=1.8, label=name)
            axes.fill_between(
                x,
                [mean - deviation for _, mean, deviation in points],
                [mean + deviation for _, mean, deviation in points],
                color=colour, alpha=0.15, linewidth=0,
            )  # fmt: skip
        axes.set_xlabel(label)
        axes.set_ylabel("held-out loss (nats/token)")
        axes.xaxis.set_major_formatter(EngFormatter(sep=" " if label == "tokens" else ""))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.legend(frameon=False, ncols=2)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def mean_curve(runs: list[Entry]) -> list[tuple[float, float, float]]:
    """Tokens, mean loss and standard deviation wherever the runs were validated."""
    curves = zip(*(run["validation"] for run in runs), strict=True)
    shown = [(points[0][0], [loss for _, loss in points]) for points in curves]
    first = SHOWN_FROM * shown[-1][0]
    return [(tokens, fmean(losses), stdev(losses)) for tokens, losses in shown if tokens >= first]
