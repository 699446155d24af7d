"""The study's tables in Markdown, made from the record of its runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from benchmarks.run_record import DIVERGED, DONE, Entries, Entry
from benchmarks.study.arms import STAGES
from benchmarks.study.protocol import evaluated, loss_of, trials_of
from benchmarks.study.space import Dimension
from ramengpt.comparison.page import markdown_table
from ramengpt.comparison.statistics import Difference, holm, mean_of, paired_t
from ramengpt.comparison.tables import TextTable, first_at_most
from ramengpt.progress import scaled

BASELINES = ("adamw", "muon_jordan")
"""What every arm is compared with; tokens and seconds are to the first one's mean loss."""
CONFIDENCE = 0.95
UNKNOWN = "-"
PRINTED_DIGITS_SLACK = 1e-6
"""Measured curves hold nine digits of a loss."""


def arms_of(about: Mapping[str, Any], entries: Entries, times: int) -> dict[str, dict[int, Entry]]:
    """The evaluations of every arm that has all of them, by seed; the lowest mean loss first.

    An arm one of whose seeds diverged comes last.
    """
    names = dict.fromkeys(entry["arm"] for entry in entries.values())
    runs = {name: evaluated(entries, name, times) for name in names}
    whole = {name: by_seed for name, by_seed in runs.items() if len(by_seed) == about["seeds"]}
    return dict(sorted(whole.items(), key=lambda arm: fmean(map(loss_of, arm[1].values()))))


def lengths_of(entries: Entries) -> list[int]:
    """Of the evaluations, in multiples of the task's."""
    return sorted({each["times"] for each in entries.values() if each["stage"] == "seeds"})


def losses_of(by_seed: Mapping[int, Entry]) -> dict[int, float]:
    """Held-out loss of each seed."""
    return {seed: loss_of(entry) for seed, entry in by_seed.items()}


def comparisons(
    arms: Mapping[str, Mapping[int, Entry]],
) -> dict[tuple[str, str], tuple[Difference, float]]:
    """Every arm against every baseline, paired by seed, with Holm's p-value over all of them.

    The baselines' own comparison is one test, shown from both sides. Arms of which a seed diverged
    have none.
    """
    losses = {name: losses_of(by_seed) for name, by_seed in arms.items()}
    finite = {name: each for name, each in losses.items() if math.inf not in each.values()}
    pairs: list[tuple[str, str]] = []
    for baseline in BASELINES:
        for name in finite:
            compared = name != baseline and baseline in finite and (baseline, name) not in pairs
            if compared:
                pairs.append((name, baseline))
    found = [paired_t(finite[name], finite[baseline], CONFIDENCE) for name, baseline in pairs]
    adjusted = holm([difference.p_value for difference in found])
    results = dict(zip(pairs, zip(found, adjusted, strict=True), strict=True))
    for (name, baseline), (difference, p_value) in list(results.items()):
        if name in BASELINES:
            results[baseline, name] = replace(difference, value=-difference.value), p_value
    return results


def seeds_table(about: Mapping[str, Any], entries: Entries, times: int) -> str:
    """A row for each arm with all its seeds, the lowest mean loss first.

    Seconds and speed, where arms were timed, are those of a run that had a GPU to itself.
    """
    arms = arms_of(about, entries, times)
    compared = comparisons(arms)
    target = mean_loss(arms.get(BASELINES[0], {}))
    header = ["optimizer", "held-out loss", "sd"]
    for baseline in BASELINES:
        header += [f"Δ to {baseline}", "p"]
    header.append(f"tokens to {BASELINES[0]}'s loss")
    speeds = {name: _speed(entries.get(f"{name}-timed")) for name in arms}
    timed = any(speeds.values())
    header += ["seconds", "tokens/s"] if timed else []
    rows = []
    for name, by_seed in arms.items():
        losses = list(losses_of(by_seed).values())
        cells = [name, *_mean_cells(losses)]
        for baseline in BASELINES:
            cells += _difference_cells(compared.get((name, baseline)))
        reached = tokens_to(by_seed.values(), target) if name != BASELINES[0] else None
        cells.append(UNKNOWN if reached is None else _short(reached))
        cells += _time_cells(reached, speeds[name]) if timed else []
        rows.append(cells)
    return markdown_table(TextTable(header, rows)) if rows else ""


def _time_cells(tokens: float | None, speed: float | None) -> list[str]:
    if speed is None:
        return [UNKNOWN, UNKNOWN]
    return [UNKNOWN if tokens is None else f"{tokens / speed:.1f}", _short(speed)]


def mean_loss(by_seed: Mapping[int, Entry]) -> float:
    """Of a baseline; infinite where it is not known."""
    return fmean(losses_of(by_seed).values()) if by_seed else math.inf


def _mean_cells(losses: Sequence[float]) -> list[str]:
    diverged = losses.count(math.inf)
    if diverged:
        return [f"{diverged} of {len(losses)} diverged", UNKNOWN]
    mean = mean_of(losses, CONFIDENCE)
    return [f"{mean.value:.4f} ± {mean.half_width:.4f}", f"{mean.deviation:.4f}"]


def _difference_cells(compared: tuple[Difference, float] | None) -> list[str]:
    if compared is None:
        return [UNKNOWN, UNKNOWN]
    difference, p_value = compared
    return [f"{difference.value:+.4f} ± {difference.half_width:.4f}", p_text(p_value)]


def p_text(p_value: float) -> str:
    """A p-value as tables show it."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def tokens_to(runs: Iterable[Entry], loss: float) -> float | None:
    """Mean over runs of the tokens at which each first reached a loss; None if one never did."""
    reached = []
    for run in runs:
        curve = [{"tokens": tokens, "loss": at} for tokens, at in run.get("validation", [])]
        row = first_at_most(curve, loss + PRINTED_DIGITS_SLACK) if loss < math.inf else None
        if row is None:
            return None
        reached.append(row["tokens"])
    return fmean(reached)


def found_table(about: Mapping[str, Any], entries: Entries) -> str:
    """A row for each arm that has been tuned: its best trial, and how many there were.

    A value in the outer tenth of its range, after all widening, is in italics.
    """
    rows = []
    for name in dict.fromkeys(entry["arm"] for entry in entries.values()):
        trials = trials_of(entries, name, STAGES)
        if len(trials) < sum(about["trials"]):
            continue
        best = min(trials, key=loss_of)
        first = entries[f"{name}-{STAGES[0]}-0"]
        diverged = sum(trial["status"] == DIVERGED for trial in trials)
        ranges = {key: each for trial in trials for key, each in trial["ranges"].items()}
        values = [_value_text(key, best["values"][key], ranges[key]) for key in best["values"]]
        rows.append(
            [
                name,
                f"{loss_of(first):.4f}",
                f"{loss_of(best):.4f}",
                f"{len(trials)}" + (f" ({diverged} diverged)" if diverged else ""),
                ", ".join(values),
            ]
        )
    header = ["optimizer", "at the start", "best", "trials", "the best one's values"]
    return markdown_table(TextTable(header, rows)) if rows else ""


def _value_text(name: str, value: float, ends: Sequence[float]) -> str:
    """A value of the best trial, in italics at an edge of its range."""
    low, high = ends
    text = f"{name} {value:g}"
    return f"*{text}*" if Dimension(name, low, high, (), whole=low == 0).edge_of(value) else text


def space_table(entries: Entries) -> str:
    """A row for each range in which a search began, and the arms that began there."""
    begun: dict[tuple[str, str], list[str]] = {}
    names = dict.fromkeys(entry["arm"] for entry in entries.values())
    for name in names:
        for stage in STAGES:
            ranges = entries.get(f"{name}-{stage}-0", {}).get("ranges", {})
            for key, (low, high) in ranges.items():
                begun.setdefault((key, f"{low:g} to {high:g}"), []).append(name)
    order = list(dict.fromkeys(key for key, _ in begun))
    rows = [
        [key, ends, "all" if len(arms) == len(names) else ", ".join(arms)]
        for (key, ends), arms in sorted(begun.items(), key=lambda row: order.index(row[0][0]))
    ]
    return markdown_table(TextTable(["value", "range", "arms"], rows)) if rows else ""


def _speed(timed: Entry | None) -> float | None:
    return None if timed is None or timed["status"] != DONE else timed["tokens_per_second"]


def _short(quantity: float) -> str:
    return scaled(quantity, "").strip()
