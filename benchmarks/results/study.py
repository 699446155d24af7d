"""What the study runs: settings as data, and for each stage the runs that are wanted so far.

Every run reads the text once: 560 steps of 65,536 tokens, of its 38.5 million training tokens.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.run_record import DONE, Entries, Entry, Run
from ramengpt.config import load_config

ONE_PASS = (
    "schedules.{schedule}.micro_batch_tokens=65536",
    "schedules.{schedule}.scheduled_steps=448",
    "schedules.{schedule}.extension_steps=112",
    "schedules.{schedule}.batch.fractions=[0.0]",
    "schedules.{schedule}.batch.micro_batches=[1]",
    "schedules.{schedule}.learning_rate.cooldown_fraction=0.5",
)
"""Constant batches, half of the scheduled steps cooling down; windows stay the preset's."""
SETTINGS = (
    "dataset=text",
    "model=base",
    "schedule=base",
    *(setting.format(schedule=name) for name in ("base", "small") for setting in ONE_PASS),
    "validation.tokens=1000000",
    "validation.every_steps=80",
    "tracking.wandb=disabled",
    "train.checkpoint_every_steps=1000000",
)
"""Of all runs; those of a run follow them."""
OPTIMIZERS = ("normuon", "muon", "bam", "aro", "adam")
BASELINE = "normuon"
"""The optimizer under which parts of the network are tried."""
REFERENCE = "adam"
"""The optimizer that the others are held against."""
FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)
"""Of the learning rate in params.yaml."""
FACTOR_STEP = 1.4
"""To the next rate outward, where the best of an optimizer is the outermost."""
MOST_EXTENSIONS = 3
EMBEDDING_FACTORS = (0.25, 0.5, 2.0)
"""Of embedding_adam.learning_rate; 1 is in the sweep."""
SWEEP_SEED = 1337
SEEDS = (1337, 1338, 1339)
NEAR_SPREADS = 2.0
"""A part within this many standard deviations of the baseline's mean gets its second seed."""

SWITCHES = {
    "value embeddings": "models.base.value_embedding_pattern=------",
    "attention gate": "models.base.attention_gate=false",
    "smear": "models.base.smear=false",
    "skip connection": "models.base.skip_connection=false",
    "backout": "models.base.backout=false",
    "key offset": "models.base.key_offset=false",
    "YaRN": "models.base.yarn=false",
}
LAST_WINDOW = ("schedules.base.window.fractions=[0.0]", "schedules.base.window.tokens=[512]")
FIRST_WINDOW = (
    "schedules.base.window.fractions=[0.0]",
    "schedules.base.window.tokens=[384]",
    "schedules.base.window.validation_tokens=384",
)
ALWAYS_TIED = "schedules.base.embedding_split_fraction=1.0"
PARTS = {
    **{f"without {part}": (setting,) for part, setting in SWITCHES.items()},
    "window 512 from the start": LAST_WINDOW,
    "window 384 to the end": FIRST_WINDOW,
    "embedding and head never one": ("schedules.base.embedding_split_fraction=0.0",),
    "embedding and head always one": (ALWAYS_TIED,),
    "swiglu": ("models.base.activation=swiglu",),
    "plain: all of these off": (*SWITCHES.values(), *LAST_WINDOW, ALWAYS_TIED),
    "head in float8": ("train.float8_head=true",),
}
"""Each is one change to the baseline, but for "plain", which keeps only the activation."""
TWO_SEEDS = ("head in float8",)
"""Parts that get their second seed whatever the first says."""


@dataclass(frozen=True)
class Rates:
    """Learning rates of params.yaml, around which the sweep looks."""

    hidden: dict[str, float]
    embedding: float


def rates_of(settings: Sequence[str]) -> Rates:
    """Read them once for all.

    Raises:
        ConfigError: a setting is wrong.
    """
    configs = {name: load_config([*settings, f"optimizer={name}"]) for name in OPTIMIZERS}
    hidden = {name: config.optimizer.learning_rate for name, config in configs.items()}
    return Rates(hidden, configs[BASELINE].embedding_adam.learning_rate)


def scaled_rate(rate: float, factor: float) -> float:
    """A multiple, of three digits."""
    return float(f"{rate * factor:.3g}")


def trained_with(optimizer: str, learning_rate: float) -> tuple[str, str]:
    """The settings that select an optimizer at a learning rate."""
    return f"optimizer={optimizer}", f"optimizers.{optimizer}.learning_rate={learning_rate}"


def sweep_runs(rates: Rates, entries: Entries) -> list[Run]:
    """Every optimizer over its grid, widened where the best rate is outermost; then embeddings."""
    runs = []
    for optimizer in OPTIMIZERS:
        factors = list(FACTORS)
        runs += [_sweep_run(rates, optimizer, factor) for factor in factors]
        for _ in range(MOST_EXTENSIONS):
            known = [entries.get(_sweep_run(rates, optimizer, each).name) for each in factors]
            further = outward([None if one is None else loss_of(one) for one in known], factors)
            if further is None:
                break
            factors = sorted([*factors, further])
            runs.append(_sweep_run(rates, optimizer, further))
    return runs + [_embedding_run(rates, factor) for factor in EMBEDDING_FACTORS]


def outward(losses: Sequence[float | None], factors: Sequence[float]) -> float | None:
    """The factor beyond the best one, if that is outermost.

    Args:
        losses: at each factor; None where it is not known yet, infinite where training failed.
        factors: increasing.

    Returns:
        None if the best lies inside, or is not known yet.
    """
    known = [loss for loss in losses if loss is not None]
    if len(known) < len(losses) or not math.isfinite(min(known)):
        return None
    best = known.index(min(known))
    if best == 0:
        return float(f"{factors[0] / FACTOR_STEP:.3g}")
    if best == len(factors) - 1:
        return float(f"{factors[-1] * FACTOR_STEP:.3g}")
    return None


def loss_of(entry: Entry) -> float:
    """Validation loss; infinite for a run that failed."""
    return float(entry["validation_loss"]) if entry["status"] == DONE else math.inf


def _sweep_run(rates: Rates, optimizer: str, factor: float) -> Run:
    rate = scaled_rate(rates.hidden[optimizer], factor)
    labels = {"stage": "sweep", "optimizer": optimizer, "learning_rate": rate}
    settings = trained_with(optimizer, rate)
    return Run(f"sweep-{optimizer}-{rate:g}", SWEEP_SEED, settings, labels)


def _embedding_run(rates: Rates, factor: float) -> Run:
    rate = scaled_rate(rates.embedding, factor)
    hidden = scaled_rate(rates.hidden[BASELINE], 1.0)
    labels = {
        "stage": "embedding",
        "optimizer": BASELINE,
        "learning_rate": hidden,
        "embedding_learning_rate": rate,
    }
    settings = (*trained_with(BASELINE, hidden), f"embedding_adam.learning_rate={rate}")
    return Run(f"embedding-{rate:g}", SWEEP_SEED, settings, labels)


def done_in(stage: str, entries: Iterable[Entry]) -> list[Entry]:
    """The finished runs of a stage."""
    return [entry for entry in entries if entry["stage"] == stage and entry["status"] == DONE]


def best_rates(entries: Entries) -> dict[str, float]:
    """The rate with the lowest loss of the sweep, of each optimizer that has one."""
    swept = done_in("sweep", entries.values())
    best: dict[str, float] = {}
    for optimizer in OPTIMIZERS:
        own = [entry for entry in swept if entry["optimizer"] == optimizer]
        if own:
            best[optimizer] = min(own, key=loss_of)["learning_rate"]
    return best


def final_runs(entries: Entries) -> list[Run]:
    """Every optimizer at its best rate with every seed."""
    best = best_rates(entries)
    return [
        Run(
            f"final-{optimizer}-{seed}",
            seed,
            trained_with(optimizer, rate),
            {"stage": "final", "optimizer": optimizer, "learning_rate": rate},
        )
        for seed in SEEDS
        for optimizer, rate in best.items()
    ]


def small_runs(entries: Entries) -> list[Run]:
    """The preset `small` under the baseline's optimizer, at the rate that is best for `base`."""
    rate = best_rates(entries).get(BASELINE)
    if rate is None:
        return []
    settings = ("model=small", "schedule=small", *trained_with(BASELINE, rate))
    labels = {"stage": "small", "optimizer": BASELINE, "learning_rate": rate}
    return [Run(f"small-{BASELINE}-{SWEEP_SEED}", SWEEP_SEED, settings, labels)]


def baseline_losses(entries: Iterable[Entry]) -> list[float]:
    """Losses of the final runs under the baseline's optimizer."""
    return [loss_of(e) for e in done_in("final", entries) if e["optimizer"] == BASELINE]


def parts_runs(entries: Entries) -> list[Run]:
    """Every part once, and a second time where it is too near to the baseline to tell."""
    baseline, rate = baseline_losses(entries.values()), best_rates(entries).get(BASELINE)
    if len(baseline) < 2 or rate is None:
        return []
    mean, spread = statistics.fmean(baseline), statistics.stdev(baseline)
    first = [_part_run(part, rate, SEEDS[0]) for part in PARTS]
    second = []
    for run in first:
        known = entries.get(run.name)
        near = known is not None and abs(loss_of(known) - mean) < NEAR_SPREADS * spread
        if near or run.labels["part"] in TWO_SEEDS:
            second.append(_part_run(run.labels["part"], rate, SEEDS[1]))
    return first + second


def _part_run(part: str, rate: float, seed: int) -> Run:
    settings = (*trained_with(BASELINE, rate), *PARTS[part])
    labels = {"stage": "parts", "part": part, "optimizer": BASELINE, "learning_rate": rate}
    name = "".join(letter if letter.isalnum() else "-" for letter in part.partition(":")[0])
    return Run(f"parts-{name}-{seed}", seed, settings, labels)
