"""The study's tables in Markdown, from the record of its runs alone."""

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.learning_rate_sweep import losses_of, with_spread
from benchmarks.learning_rate_sweep import table as table_of_rates
from benchmarks.optimizer_step import OPTIMIZERS
from benchmarks.results.study import (
    BASELINE,
    PARTS,
    REFERENCE,
    best_rates,
    done_in,
    loss_of,
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
    """A row for each optimizer and learning rate, the best of each in bold."""
    losses = losses_of(entry for entry in entries.values() if entry["stage"] == "sweep")
    order = sorted(losses, key=lambda point: OPTIMIZERS.index(point.optimizer))
    return table_of_rates({point: losses[point] for point in order})


def embedding_table(entries: Entries) -> str:
    """A row for each factor of the embeddings' rate; the sweep has that of params.yaml."""
    runs = done_in(["embedding"], entries.values())
    if not runs:
        return ""
    tried = {run["embedding_factor"]: loss_of(run) for run in runs}
    rows = [[f"{factor:g}", f"{loss:.4f}"] for factor, loss in sorted(tried.items())]
    for run in done_in(["sweep"], entries.values()):
        if (run["optimizer"], run["learning_rate"]) == (BASELINE, runs[0]["learning_rate"]):
            rows.append(["of params.yaml", f"{loss_of(run):.4f}"])
    return markdown_table(TextTable(["embedding_factor", "validation loss"], rows))


def runs_at_best(entries: Entries) -> dict[str, list[Entry]]:
    """The finished runs of each optimizer at its best rate, of all seeds."""
    return {name: runs_at(name, rate, entries) for name, rate in best_rates(entries).items()}


def spread_of_seeds(entries: Entries) -> float | None:
    """Standard deviation from seed to seed, pooled over the optimizers at their best rates."""
    groups = [[loss_of(run) for run in runs] for runs in runs_at_best(entries).values()]
    several = [group for group in groups if len(group) > 1]
    if not several:
        return None
    squares = sum((len(group) - 1) * statistics.variance(group) for group in several)
    return (squares / sum(len(group) - 1 for group in several)) ** 0.5


def seeds_table(entries: Entries) -> str:
    """A row for each optimizer at its best rate, the lowest loss first.

    Speeds, and the tokens after which the held-out loss was as low as the reference's mean at its
    end (linear between two measurements), are those of the runs that had a GPU to themselves.
    """
    groups = runs_at_best(entries)
    if not any(run["stage"] == "seeds" for runs in groups.values() for run in runs):
        return ""
    means = {name: _mean(map(loss_of, runs)) for name, runs in groups.items()}
    reference = means.get(REFERENCE)
    header = [
        "optimizer", "learning rate", "validation loss", f"Δ to {REFERENCE}", "seeds", "tokens/s",
        "seconds", f"tokens to {REFERENCE}'s loss",
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
                f"{groups[name][0]['learning_rate']:g}",
                with_spread([loss_of(run) for run in groups[name]]),
                UNKNOWN if reference is None else f"{means[name] - reference:+.4f}",
                str(len(groups[name])),
                _speed(timed),
                f"{_mean(run['steady_seconds'] for run in timed):.1f}" if timed else UNKNOWN,
                UNKNOWN if reached is None else _short(reached),
            ]
        )
    return markdown_table(TextTable(header, rows))


def tokens_to(runs: Sequence[Entry], loss: float) -> float | None:
    """Mean over runs of the tokens at which each was first as low; None if one never was."""
    reached = []
    for run in runs:
        curve = [{"tokens": tokens, "loss": measured} for tokens, measured in run["validation"]]
        row = first_at_most(curve, loss + PRINTED_DIGITS_SLACK)
        if row is None:
            return None
        reached.append(row["tokens"])
    return _mean(reached)


def parts_table(entries: Entries) -> str:
    """A row for each change, held against the baseline's mean, the most harmful first.

    The standard error of a difference takes every variant to spread from seed to seed as the
    optimizers at their best rates do: that spread x sqrt(1 / its seeds + 1 / the baseline's).
    """
    tried = parts_tried(entries)
    same = runs_at(BASELINE, tried[0]["learning_rate"], entries) if tried else []
    if not same:
        return ""
    header = ["change", "validation loss", "Δ", "standard error of Δ", "seeds"]
    baseline = [loss_of(run) for run in same]
    mean, spread = _mean(baseline), spread_of_seeds(entries)
    rows = [["none (baseline)", with_spread(baseline), "", "", str(len(baseline))]]
    groups = {part: [run for run in tried if run["part"] == part] for part in PARTS}
    done = {part: done_in(["parts"], runs) for part, runs in groups.items()}
    losses = {part: [loss_of(run) for run in runs] for part, runs in done.items() if runs}
    for part in sorted(losses, key=lambda part: -_mean(losses[part])):
        own, seeds = _mean(losses[part]), len(losses[part])
        shares = 1 / seeds + 1 / len(baseline)
        error = UNKNOWN if spread is None else f"{spread * math.sqrt(shares):.4f}"
        rows.append([part, f"{own:.4f}", f"{own - mean:+.4f}", error, str(seeds)])
    rows += [
        [part, "failed", "", "", ""] for part, runs in groups.items() if runs and not done[part]
    ]
    return markdown_table(TextTable(header, rows))


def parts_tried(entries: Entries) -> list[Entry]:
    """The runs of parts at one learning rate: that of the last of them."""
    tried = [entry for entry in entries.values() if entry["stage"] == "parts"]
    return [entry for entry in tried if entry["learning_rate"] == tried[-1]["learning_rate"]]


def small_table(entries: Entries) -> str:
    """`small` beside the mean of `base` at the same learning rate and on equal tokens."""
    small = done_in(["small"], entries.values())
    if not small:
        return ""
    rate = small[0]["learning_rate"]
    header = [
        "preset", "learning rate", "validation loss", "seeds", "tokens", "tokens/s", "peak memory",
    ]  # fmt: skip
    rows = []
    for preset, runs in (("base", runs_at(BASELINE, rate, entries)), ("small", small)):
        rows.append(
            [
                preset,
                f"{rate:g}",
                with_spread([loss_of(run) for run in runs]) if runs else UNKNOWN,
                str(len(runs)),
                _short(small[0]["tokens"]),
                _speed([run for run in runs if run["alone"]]),
                f"{max(run['peak_memory_gib'] for run in runs):.2f} GiB" if runs else UNKNOWN,
            ]
        )
    return markdown_table(TextTable(header, rows))


TABLES: dict[str, Callable[[Entries], str]] = {
    "sweep": sweep_table,
    "embedding": embedding_table,
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
        rate = tried[0]["learning_rate"]
        parts.append(f"Parts of the network were tried under {BASELINE} at {rate:g}.")
    outermost = outermost_best(entries)
    if outermost:
        parts.append(f"The best learning rate is the outermost tried of: {', '.join(outermost)}.")
    return "\n\n".join(parts) + "\n"


def outermost_best(entries: Entries) -> list[str]:
    """Optimizers for which a rate beyond those of the sweep may be better still."""
    swept = [entry for entry in entries.values() if entry["stage"] == "sweep"]
    found = []
    for name, best in best_rates(entries).items():
        rates = [entry["learning_rate"] for entry in swept if entry["optimizer"] == name]
        if best in (min(rates), max(rates)):
            found.append(name)
    return found


def between_markers(name: str, text: str) -> str:
    """A table as a page holds it."""
    return f"<!-- table: {name} -->\n\n{text}\n\n<!-- end -->"


def tables_in(page: str) -> dict[str, str]:
    """The tables that stand between markers of a page."""
    found = re.findall(r"^<!-- table: (\w+) -->\n\n(.*?)\n\n<!-- end -->$", page, re.S | re.M)
    return dict(found)


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _speed(timed: Sequence[Entry]) -> str:
    return _short(_mean(run["tokens_per_second"] for run in timed)) if timed else UNKNOWN


def _short(quantity: float) -> str:
    return scaled(quantity, "").strip()
