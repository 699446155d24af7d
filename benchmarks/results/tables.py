"""The study's tables in Markdown, from the record of its runs alone."""

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.learning_rate_sweep import losses_of
from benchmarks.learning_rate_sweep import table as table_of_rates
from benchmarks.results.study import (
    BASELINE,
    OPTIMIZERS,
    PARTS,
    REFERENCE,
    baseline_losses,
    best_rates,
    done_in,
    loss_of,
)
from benchmarks.run_record import DONE, Entries, Entry
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
    """A row for each learning rate of embeddings and head; the sweep has the one of params.yaml."""
    runs = done_in("embedding", entries.values())
    if not runs:
        return ""
    tried = {run["embedding_learning_rate"]: loss_of(run) for run in runs}
    hidden = runs[0]["learning_rate"]
    rows = [[f"{rate:g}", f"{loss:.4f}"] for rate, loss in sorted(tried.items())]
    for run in done_in("sweep", entries.values()):
        if (run["optimizer"], run["learning_rate"]) == (BASELINE, hidden):
            rows.append(["of params.yaml", f"{loss_of(run):.4f}"])
    return markdown_table(TextTable(["embedding_adam.learning_rate", "validation loss"], rows))


def final_table(entries: Entries) -> str:
    """A row for each optimizer at its best rate, the lowest loss first.

    Where a run's held-out curve first is as low as the reference's mean at its end is linear
    between two measurements.
    """
    final = done_in("final", entries.values())
    groups = {name: [run for run in final if run["optimizer"] == name] for name in OPTIMIZERS}
    means = {name: _mean(map(loss_of, runs)) for name, runs in groups.items() if runs}
    reference = means.get(REFERENCE)
    header = [
        "optimizer", "learning rate", "validation loss", f"Δ to {REFERENCE}", "seeds", "tokens/s",
        "seconds", f"tokens to {REFERENCE}'s loss",
    ]  # fmt: skip
    rows = []
    for name in sorted(means, key=lambda name: means[name]):
        runs = groups[name]
        reached = None
        if reference is not None:
            reached = tokens_to(runs, reference) if name != REFERENCE else runs[0]["tokens"]
        rows.append(
            [
                name,
                f"{runs[0]['learning_rate']:g}",
                with_spread([loss_of(run) for run in runs]),
                UNKNOWN if reference is None else f"{means[name] - reference:+.4f}",
                str(len(runs)),
                _short(_mean(run["tokens_per_second"] for run in runs)),
                f"{_mean(run['steady_seconds'] for run in runs):.1f}",
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
    """A row for each change, held against the baseline's mean.

    The last column but one is the standard error of the difference, if every variant spreads from
    seed to seed as the baseline does: spread x sqrt(1 / its seeds + 1 / the baseline's).
    """
    tried = [entry for entry in entries.values() if entry["stage"] == "parts"]
    baseline = baseline_losses(entries.values())
    if not tried or len(baseline) < 2:
        return ""
    header = ["change", "validation loss", "Δ", "standard error of Δ", "seeds"]
    mean, spread = _mean(baseline), statistics.stdev(baseline)
    rows = [["none (baseline)", with_spread(baseline), "", "", str(len(baseline))]]
    for part in PARTS:
        runs = [entry for entry in tried if entry["part"] == part]
        losses = [loss_of(run) for run in runs if run["status"] == DONE]
        if not losses:
            rows += [[part, "failed", "", "", ""]] if runs else []
            continue
        error = spread * math.sqrt(1 / len(losses) + 1 / len(baseline))
        own = _mean(losses)
        rows.append([part, f"{own:.4f}", f"{own - mean:+.4f}", f"{error:.4f}", str(len(losses))])
    return markdown_table(TextTable(header, rows))


def small_table(entries: Entries) -> str:
    """`small` beside the mean of `base`, at equal tokens."""
    groups = {
        "base": [e for e in done_in("final", entries.values()) if e["optimizer"] == BASELINE],
        "small": done_in("small", entries.values()),
    }
    header = [
        "preset", "learning rate", "validation loss", "seeds", "tokens", "tokens/s", "seconds",
        "peak memory",
    ]  # fmt: skip
    rows = [
        [
            preset,
            f"{runs[0]['learning_rate']:g}",
            with_spread([loss_of(run) for run in runs]),
            str(len(runs)),
            _short(runs[0]["tokens"]),
            _short(_mean(run["tokens_per_second"] for run in runs)),
            f"{_mean(run['steady_seconds'] for run in runs):.1f}",
            f"{max(run['peak_memory_gib'] for run in runs):.2f} GiB",
        ]
        for preset, runs in groups.items()
        if runs
    ]
    return markdown_table(TextTable(header, rows))


TABLES: dict[str, Callable[[Entries], str]] = {
    "sweep": sweep_table,
    "embedding": embedding_table,
    "final": final_table,
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


def with_spread(values: Sequence[float]) -> str:
    """Mean, and sample standard deviation where there are several."""
    mean = f"{_mean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _short(quantity: float) -> str:
    return scaled(quantity, "").strip()
