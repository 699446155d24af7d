"""The study's tables in Markdown, made from the record of its runs."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, variance
from typing import Any

from benchmarks.learning_rate_sweep import with_spread
from benchmarks.optimizer_step import OPTIMIZERS
from benchmarks.results.search import Point
from benchmarks.results.study import (
    BASELINE,
    PARTS,
    REFERENCE,
    best_points,
    done_in,
    final_points,
    loss_of,
    losses_tried,
    point_of,
    runs_at,
)
from benchmarks.run_record import Entries, Entry
from ramengpt.comparison.page import markdown_table
from ramengpt.comparison.tables import TextTable, first_at_most
from ramengpt.progress import scaled

UNKNOWN = "-"
PRINTED_DIGITS_SLACK = 1e-6
"""Measured curves hold nine digits of a loss."""


def sweep_table(entries: Entries) -> str:
    """A row for each learning rate of an optimizer, a column for each of embeddings."""
    tried = {name: losses_tried(name, entries) for name in OPTIMIZERS}
    best = best_points(entries)
    columns = sorted({point.embedding_rate for losses in tried.values() for point in losses})
    header = ["optimizer", "learning rate", *(f"embeddings {rate:g}" for rate in columns)]
    rows = []
    for name, losses in tried.items():
        for rate in sorted({point.learning_rate for point in losses}):
            points = [Point(rate, embedding_rate) for embedding_rate in columns]
            cells = [_loss_cell(losses.get(point), point == best.get(name)) for point in points]
            rows.append([name, f"{rate:g}", *cells])
    return markdown_table(TextTable(header, rows))


def _loss_cell(loss: float | None, is_best: bool) -> str:
    if loss is None:
        return ""
    if loss == math.inf:
        return "failed"
    return f"**{loss:.4f}**" if is_best else f"{loss:.4f}"


def runs_at_best(entries: Entries) -> dict[str, list[Entry]]:
    """The finished runs of each optimizer where its sweep was best, of all seeds."""
    return {name: runs_at(name, point, entries) for name, point in best_points(entries).items()}


def pooled_spread(groups: Iterable[Sequence[float]]) -> float | None:
    """Standard deviation within groups, pooled; None where no group has two values."""
    several = [group for group in groups if len(group) > 1]
    if not several:
        return None
    squares = sum((len(group) - 1) * variance(group) for group in several)
    return (squares / sum(len(group) - 1 for group in several)) ** 0.5


def seeds_table(entries: Entries) -> str:
    """A row for each optimizer at its best rate, the lowest loss first.

    Speeds, and the tokens after which the held-out loss was as low as the reference's mean at its
    end (linear between two measurements), are those of the runs that had a GPU to themselves.
    """
    groups = runs_at_best(entries)
    if not any(run["stage"] == "seeds" for runs in groups.values() for run in runs):
        return ""
    means = {name: fmean(map(loss_of, runs)) for name, runs in groups.items()}
    reference = means.get(REFERENCE)
    header = [
        "optimizer", "learning rate", "embeddings", "validation loss", f"Δ to {REFERENCE}", "seeds",
        "tokens/s", "seconds", f"tokens to {REFERENCE}'s loss",
    ]  # fmt: skip
    rows = []
    for name in sorted(means, key=lambda name: means[name]):
        timed = [run for run in groups[name] if run["alone"]]
        reached = None
        if timed and reference is not None and name != REFERENCE:
            reached = tokens_to(timed, reference)
        rows.append(
            [
                name,
                *(f"{each:g}" for each in point_of(groups[name][0])),
                with_spread([loss_of(run) for run in groups[name]]),
                UNKNOWN if reference is None else f"{means[name] - reference:+.4f}",
                str(len(groups[name])),
                _speed(timed),
                f"{fmean(run['steady_seconds'] for run in timed):.1f}" if timed else UNKNOWN,
                UNKNOWN if reached is None else _short(reached),
            ]
        )
    return markdown_table(TextTable(header, rows))


def tokens_to(runs: Sequence[Entry], loss: float) -> float | None:
    """Mean over runs of the tokens at which each first reached a loss; None if one never did."""
    reached = []
    for run in runs:
        curve = [{"tokens": tokens, "loss": measured} for tokens, measured in run["validation"]]
        row = first_at_most(curve, loss + PRINTED_DIGITS_SLACK)
        if row is None:
            return None
        reached.append(row["tokens"])
    return fmean(reached)


def parts_table(entries: Entries) -> str:
    """A row for each change, compared with the baseline's mean, the most harmful first.

    The standard error of a difference assumes the same spread over seeds for the baseline and all
    changes: their pooled spread x sqrt(1 / the change's seeds + 1 / the baseline's).
    """
    tried = parts_tried(entries)
    same = runs_at(BASELINE, point_of(tried[0]), entries) if tried else []
    if not same:
        return ""
    header = ["change", "validation loss", "Δ", "standard error of Δ", "seeds"]
    groups = {part: [run for run in tried if run["part"] == part] for part in PARTS}
    done = {part: done_in(["parts"], runs) for part, runs in groups.items()}
    losses = {part: [loss_of(run) for run in runs] for part, runs in done.items() if runs}
    baseline = [loss_of(run) for run in same]
    mean, spread = fmean(baseline), pooled_spread([baseline, *losses.values()])
    rows = [["none (baseline)", with_spread(baseline), "", "", str(len(baseline))]]
    for part in sorted(losses, key=lambda part: -fmean(losses[part])):
        own, seeds = fmean(losses[part]), len(losses[part])
        shares = 1 / seeds + 1 / len(baseline)
        error = UNKNOWN if spread is None else f"{spread * math.sqrt(shares):.4f}"
        rows.append([part, f"{own:.4f}", f"{own - mean:+.4f}", error, str(seeds)])
    rows += [
        [part, "failed", "", "", ""] for part, runs in groups.items() if runs and not done[part]
    ]
    return markdown_table(TextTable(header, rows))


def parts_tried(entries: Entries) -> list[Entry]:
    """The runs of parts at one point: that of the last of them."""
    tried = [entry for entry in entries.values() if entry["stage"] == "parts"]
    return [entry for entry in tried if point_of(entry) == point_of(tried[-1])]


def small_table(entries: Entries) -> str:
    """`small` beside the mean of `base` at the same learning rates and on equal tokens."""
    small = done_in(["small"], entries.values())[-1:]
    if not small:
        return ""
    base = runs_at(BASELINE, point_of(small[0]), entries)
    header = ["preset", "validation loss", "seeds", "tokens", "tokens/s", "peak memory"]
    rows = [
        [
            preset,
            with_spread([loss_of(run) for run in runs]) if runs else UNKNOWN,
            str(len(runs)),
            _short(small[0]["tokens"]),
            _speed([run for run in runs if run["alone"]]),
            f"{max(run['peak_memory_gib'] for run in runs):.2f} GiB" if runs else UNKNOWN,
        ]
        for preset, runs in (("base", base), ("small", small))
    ]
    return markdown_table(TextTable(header, rows))


TABLES: dict[str, Callable[[Entries], str]] = {
    "sweep": sweep_table,
    "seeds": seeds_table,
    "parts": parts_table,
    "small": small_table,
}


def machine_line(about: Mapping[str, Any], entries: Entries) -> str:
    """Where and when the runs were made, and with what."""
    versions = ", ".join(f"{name} {value}" for name, value in sorted(about["machine"].items()))
    days = sorted({entry["finished"][:10] for entry in entries.values()})
    return f"{versions}; {' to '.join(dict.fromkeys([days[0], days[-1]]))}" if days else versions


def results_page(about: Mapping[str, Any], entries: Entries) -> str:
    """The machine and all tables that have rows, each between its markers."""
    tables = {name: make(entries) for name, make in TABLES.items()}
    parts = [machine_line(about, entries)]
    parts += [between_markers(name, text) for name, text in tables.items() if text.count("\n") > 1]
    tried = parts_tried(entries)
    if tried:
        rates = " and ".join(f"{rate:g}" for rate in point_of(tried[0]))
        parts.append(f"Parts were tried under {BASELINE} at learning rates of {rates}.")
    final = final_points(entries)
    going_on = [name for name in best_points(entries) if name not in final]
    if going_on:
        parts.append(f"Better learning rates may lie beyond those tried of: {', '.join(going_on)}.")
    return "\n\n".join(parts) + "\n"


def between_markers(name: str, text: str) -> str:
    """A table as a page holds it."""
    return f"<!-- table: {name} -->\n\n{text}\n\n<!-- end -->"


def tables_in(page: str) -> dict[str, str]:
    """The tables that stand between markers of a page."""
    found = re.findall(r"^<!-- table: (\w+) -->\n\n(.*?)\n\n<!-- end -->$", page, re.S | re.M)
    return dict(found)


def _speed(timed: Sequence[Entry]) -> str:
    return _short(fmean(run["tokens_per_second"] for run in timed)) if timed else UNKNOWN


def _short(quantity: float) -> str:
    return scaled(quantity, "").strip()
