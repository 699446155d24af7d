"""What a study says, in sentences made from its record.

"Below" is a difference beyond chance at one length of training; "better" is one at every length,
of which there must be two.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.run_record import Entries, Entry
from benchmarks.study.arms import Arm
from benchmarks.study.space import HOOKS, RATES
from benchmarks.study.tables import (
    BASELINES,
    arms_of,
    comparisons,
    lengths_of,
    mean_loss,
    tokens_to,
)

SIGNIFICANT = 0.05
"""After Holm's correction over all comparisons of a table."""
NAMES = {"adamw": "AdamW", "muon_jordan": "Keller Jordan's Muon"}


def answer(about: Mapping[str, Any], entries: Entries) -> str:
    """A list: arms that are better, lowest, below and above the baselines; what was left out."""
    sentences = []
    below: dict[str, list[set[str]]] = {baseline: [] for baseline in BASELINES}
    for times in lengths_of(entries):
        arms = arms_of(about, entries, times)
        if len(arms) < 2:
            continue
        sentences.append(_lowest(about, arms, times))
        for baseline in BASELINES:
            found = _beside(arms, baseline)
            below[baseline].append(found["below"])
            sentences += [_sides(baseline, found, times)] if baseline in arms else []
        if times == 1:
            sentences += _sooner(arms)
    sentences[:0] = [
        f"Better than {NAMES[baseline]} at every length: {listed(better)}."
        for baseline, sets in below.items()
        if len(sets) > 1 and (better := set.intersection(*sets))
    ]
    missing = [name for name in RATES if name not in arms_of(about, entries, 1)]
    hooks = {Arm(name).hook for name in arms_of(about, entries, 1)}
    missing += [hook for hook in HOOKS if hook not in hooks]
    sentences += [f"Not evaluated: {listed(missing)}."] if missing else []
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _lowest(about: Mapping[str, Any], arms: Mapping[str, Mapping[int, Entry]], times: int) -> str:
    best, runs = next(iter(arms.items()))
    if times == 1:
        trials, seeds = sum(about["trials"]), about["seeds"]
        begin = (
            f"Of {len(arms)} arms, each tuned by {trials} trials and run with {seeds} fresh seeds"
        )
    else:
        begin = f"Trained {times} times as long, of {len(arms)} arms"
    far = [
        f"{mean_loss(arms[baseline]) - mean_loss(runs):.4f} below {NAMES[baseline]}"
        for baseline in BASELINES
        if baseline != best and mean_loss(arms.get(baseline, {})) < math.inf
    ]
    return (
        ", ".join([f"{begin}, `{best}` ends lowest: {mean_loss(runs):.4f} nats/token", *far]) + "."
    )


def _beside(arms: Mapping[str, Mapping[int, Entry]], baseline: str) -> dict[str, set[str]]:
    """The arms below and above a baseline beyond chance, and those not told apart from it."""
    sides: dict[str, set[str]] = {"below": set(), "above": set(), "not told apart": set()}
    for (name, other), (difference, p_value) in comparisons(arms).items():
        if other == baseline:
            side = "below" if difference.value < 0 else "above"
            sides[side if p_value < SIGNIFICANT else "not told apart"].add(name)
    return sides


def _sides(baseline: str, found: Mapping[str, set[str]], times: int) -> str:
    begin = "Beside" if times == 1 else "There, beside"
    parts = [f"{side}: {listed(names)}" for side, names in found.items() if names]
    return f"{begin} {NAMES[baseline]} (p < {SIGNIFICANT:g}), {'; '.join(parts)}."


def _sooner(arms: Mapping[str, Mapping[int, Entry]]) -> list[str]:
    """How soon other arms reach the first baseline's loss."""
    baseline = BASELINES[0]
    target = mean_loss(arms[baseline]) if baseline in arms else math.inf
    reached = {
        name: tokens_to(runs.values(), target)
        for name, runs in arms.items()
        if name != baseline and target < math.inf
    }
    shares = [
        tokens / next(iter(arms[name].values()))["validation"][-1][0]
        for name, tokens in reached.items()
        if tokens is not None
    ]
    if not shares:
        return []
    span = " to ".join(dict.fromkeys(f"{share:.0%}"[:-1] for share in (min(shares), max(shares))))
    return [f"{len(shares)} reach {NAMES[baseline]}'s last loss after {span} % of its tokens."]


def listed(names: Iterable[str]) -> str:
    """Names in a sentence; nothing without any."""
    *first, last = [f"`{name}`" for name in sorted(names)] or [""]
    return f"{', '.join(first)} and {last}" if first else last
