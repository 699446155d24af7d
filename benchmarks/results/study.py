"""What the study runs: settings as data, and for each stage the runs that are wanted so far.

Every run takes 320 steps of 65,536 tokens. These 20,971,520 are just less than an epoch of the
text: 21.1 million tokens, when a document contributes its first 2048.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from benchmarks.learning_rate_sweep import scaled_rate, trained_with
from benchmarks.optimizer_step import OPTIMIZERS
from benchmarks.run_record import DONE, Entries, Entry, Run
from ramengpt.config import load_config

ONE_EPOCH = (
    "schedules.{schedule}.micro_batch_tokens=65536",
    "schedules.{schedule}.sequence.tokens=[2048]",
    "schedules.{schedule}.scheduled_steps=256",
    "schedules.{schedule}.extension_steps=64",
    "schedules.{schedule}.batch.fractions=[0.0]",
    "schedules.{schedule}.batch.micro_batches=[1]",
    "schedules.{schedule}.learning_rate.cooldown_fraction=0.5",
)
"""In batches of one size. Half of the scheduled steps cool down; windows stay the preset's."""
SETTINGS = (
    "dataset=text",
    "model=base",
    "schedule=base",
    *(setting.format(schedule=name) for name in ("base", "small") for setting in ONE_EPOCH),
    "validation.tokens=1000000",
    "tracking.wandb=disabled",
    "train.checkpoint_every_steps=1000000",
)
"""Of all runs; those of a run follow them."""
AT_THE_END, AS_A_CURVE = "validation.every_steps=1000000", "validation.every_steps=40"
BASELINE = "normuon"
"""The optimizer under which parts of the network are tried."""
REFERENCE = "adam"
"""The optimizer that the others are held against."""
FACTORS = {
    "normuon": (1.0, 2.0, 4.0),
    "muon": (1.0, 2.0, 4.0),
    "bam": (2.0, 4.0, 8.0),
    "aro": (0.5, 1.0, 2.0),
    "adam": (0.7, 1.4, 2.8),
}
"""Of the learning rate in params.yaml: where each optimizer's grid begins, the lowest first."""
GRID_STEP = 2.0
"""Between the end of a grid and the factor that is tried outside it."""
EMBEDDING_FACTORS = (0.125, 0.5)
"""Values of the schedule's `embedding_factor` beside the one of params.yaml."""
SWEEP_SEED = 1337
SECOND_SEED = 1338
"""With it an optimizer has a GPU to itself, and its held-out loss is a curve."""
MORE_SEEDS = (SECOND_SEED, 1339)
NEAR_LOSS = 0.02
"""A part that changes the loss by less gets a second seed."""

SWITCHES = {
    "value embeddings": "models.base.value_embedding_pattern=------",
    "attention gate": "models.base.attention_gate=false",
    "smear": "models.base.smear=false",
    "skip connection": "models.base.skip_connection=false",
    "backout": "models.base.backout=false",
    "key offset": "models.base.key_offset=false",
}
WITHOUT_YARN = "models.base.yarn=false"
LAST_WINDOW = ("schedules.base.window.fractions=[0.0]", "schedules.base.window.tokens=[512]")
FIRST_WINDOW = (
    "schedules.base.window.fractions=[0.0]",
    "schedules.base.window.tokens=[384]",
    "schedules.base.window.validation_tokens=384",
)
ALWAYS_TIED = "schedules.base.embedding_split_fraction=1.0"
PARTS = {
    **{f"without {part}": (setting,) for part, setting in SWITCHES.items()},
    "swiglu": ("models.base.activation=swiglu",),
    "embedding and head never one": ("schedules.base.embedding_split_fraction=0.0",),
    "embedding and head always one": (ALWAYS_TIED,),
    "window 512 from the start": LAST_WINDOW,
    "head in float8": ("train.float8_head=true",),
    "window 384 to the end": FIRST_WINDOW,
    "without YaRN": (WITHOUT_YARN,),
    "plain: all of these off": (*SWITCHES.values(), WITHOUT_YARN, *LAST_WINDOW, ALWAYS_TIED),
}
"""Each is one change to the baseline, but for "plain", which keeps only the activation."""


def rates_of(settings: Sequence[str]) -> dict[str, float]:
    """Every optimizer's learning rate in params.yaml.

    Raises:
        ConfigError: a setting is wrong.
    """
    configs = {name: load_config([*settings, f"optimizer={name}"]) for name in OPTIMIZERS}
    return {name: config.optimizer.learning_rate for name, config in configs.items()}


def sweep_runs(rates: dict[str, float], entries: Entries) -> list[Run]:
    """Every optimizer over its grid; then embeddings."""
    runs = [run for name in OPTIMIZERS for run in grid_runs(name, rates[name], entries)]
    return runs + [_embedding_run(rates, factor) for factor in EMBEDDING_FACTORS]


def grid_runs(optimizer: str, rate: float, entries: Entries) -> list[Run]:
    """An optimizer's runs of the sweep so far, the lowest learning rate first.

    Once all have ended, the grid grows beyond an end that is better than all the others: never
    beyond a run that failed.
    """
    factors = list(FACTORS[optimizer])
    while True:
        tried = [scaled_rate(rate, factor) for factor in factors]
        runs = [_optimizer_run(optimizer, each, SWEEP_SEED) for each in tried]
        if not _all_ended(runs, entries):
            return runs
        ended = [entries[run.name] for run in runs]
        losses = [loss_of(entry) if entry["status"] == DONE else math.inf for entry in ended]
        if losses[0] < min(losses[1:]):
            factors.insert(0, factors[0] / GRID_STEP)
        elif losses[-1] < min(losses[:-1]):
            factors.append(factors[-1] * GRID_STEP)
        else:
            return runs


def _all_ended(runs: Iterable[Run], entries: Entries) -> bool:
    return all(run.name in entries for run in runs)


def _optimizer_run(optimizer: str, rate: float, seed: int) -> Run:
    timed = seed == SECOND_SEED
    stage = "sweep" if seed == SWEEP_SEED else "seeds"
    return Run(
        f"{optimizer}-{rate:g}-{seed}",
        seed,
        (AS_A_CURVE if timed else AT_THE_END, *trained_with(optimizer, rate)),
        {"stage": stage, "optimizer": optimizer, "learning_rate": rate},
        alone=timed,
    )


def _embedding_run(rates: dict[str, float], factor: float) -> Run:
    rate = rates[BASELINE]
    labels = {
        "stage": "embedding",
        "optimizer": BASELINE,
        "learning_rate": rate,
        "embedding_factor": factor,
    }
    setting = f"schedules.base.learning_rate.embedding_factor={factor}"
    settings = (AT_THE_END, setting, *trained_with(BASELINE, rate))
    return Run(f"embedding-{factor:g}-{SWEEP_SEED}", SWEEP_SEED, settings, labels)


def done_in(stages: Sequence[str], entries: Iterable[Entry]) -> list[Entry]:
    """The finished runs of some stages."""
    return [entry for entry in entries if entry["stage"] in stages and entry["status"] == DONE]


def loss_of(entry: Entry) -> float:
    """Validation loss of a finished run."""
    return float(entry["validation_loss"])


def best_rates(entries: Entries) -> dict[str, float]:
    """The rate with the lowest loss of the sweep so far, of each optimizer that has one."""
    swept = done_in(["sweep"], entries.values())
    best: dict[str, float] = {}
    for optimizer in OPTIMIZERS:
        own = [entry for entry in swept if entry["optimizer"] == optimizer]
        if own:
            best[optimizer] = min(own, key=loss_of)["learning_rate"]
    return best


def final_rates(rates: dict[str, float], entries: Entries) -> dict[str, float]:
    """The best rate of each optimizer whose grid is whole."""
    return {
        name: best
        for name, best in best_rates(entries).items()
        if _all_ended(grid_runs(name, rates[name], entries), entries)
    }


def seeds_runs(rates: dict[str, float], entries: Entries) -> list[Run]:
    """Every optimizer at its best rate with two seeds more, as soon as its own grid is whole."""
    best = final_rates(rates, entries)
    return [
        _optimizer_run(optimizer, rate, seed)
        for seed in MORE_SEEDS
        for optimizer, rate in best.items()
    ]


def runs_at(optimizer: str, rate: float, entries: Entries) -> list[Entry]:
    """The finished runs of an optimizer at a rate, of all seeds, with nothing else changed."""
    finished = done_in(["sweep", "seeds"], entries.values())
    return [e for e in finished if (e["optimizer"], e["learning_rate"]) == (optimizer, rate)]


def parts_runs(rates: dict[str, float], entries: Entries) -> list[Run]:
    """The baseline's seeds and every part at its best rate; once more each that hardly matters.

    None before the baseline's grid is whole, and no part once more before
    the baseline's seeds have ended.
    """
    rate = final_rates(rates, entries).get(BASELINE)
    if rate is None:
        return []
    seeds = [_optimizer_run(BASELINE, rate, seed) for seed in MORE_SEEDS]
    first = [_part_run(part, rate, SWEEP_SEED) for part in PARTS]
    if not _all_ended(seeds, entries):
        return [*seeds, *first]
    baseline = statistics.fmean(map(loss_of, runs_at(BASELINE, rate, entries)))
    tried = done_in(["parts"], [entries[run.name] for run in first if run.name in entries])
    near = [entry["part"] for entry in tried if abs(loss_of(entry) - baseline) < NEAR_LOSS]
    return [*seeds, *first, *(_part_run(part, rate, SECOND_SEED) for part in near)]


def _part_run(part: str, rate: float, seed: int) -> Run:
    settings = (AT_THE_END, *trained_with(BASELINE, rate), *PARTS[part])
    labels = {"stage": "parts", "part": part, "optimizer": BASELINE, "learning_rate": rate}
    name = "".join(letter if letter.isalnum() else "-" for letter in part.partition(":")[0])
    return Run(f"{name}-{rate:g}-{seed}", seed, settings, labels)


def small_runs(rates: dict[str, float]) -> list[Run]:
    """The preset `small` under the baseline's optimizer, as params.yaml has it."""
    rate = rates[BASELINE]
    settings = (AS_A_CURVE, "model=small", "schedule=small", *trained_with(BASELINE, rate))
    labels = {"stage": "small", "optimizer": BASELINE, "learning_rate": rate}
    return [Run(f"small-{SWEEP_SEED}", SWEEP_SEED, settings, labels, alone=True)]


STAGES: dict[str, Callable[[dict[str, float], Entries], list[Run]]] = {
    "sweep": sweep_runs,
    "seeds": seeds_runs,
    "small": lambda rates, _: small_runs(rates),
    "parts": parts_runs,
}
"""In the order of their runs, which follow from the rates of params.yaml and from what is known."""


def study_runs(stages: Sequence[str], rates: dict[str, float], entries: Entries) -> list[Run]:
    """All runs that some stages want so far, each once, in the order in which they should begin."""
    wanted = [run for name in STAGES if name in stages for run in STAGES[name](rates, entries)]
    return list({run.name: run for run in wanted}.values())


def sweep_is_missing(stages: Sequence[str], rates: dict[str, float], entries: Entries) -> bool:
    """Whether stages without the sweep need a best rate that is not known yet."""
    needed = {"seeds": OPTIMIZERS, "parts": (BASELINE,)}
    known = final_rates(rates, entries)
    return "sweep" not in stages and any(
        name not in known for stage in stages for name in needed.get(stage, ())
    )
