"""What the study runs: settings as data, and for each stage the runs that are wanted so far.

Every run takes 400 steps of 65,536 tokens: three epochs of the text, as the schedule takes no more
of a document than its first 512 tokens.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence

from benchmarks.learning_rate_sweep import scaled_rate, trained_with
from benchmarks.optimizer_step import OPTIMIZERS
from benchmarks.run_record import DONE, Entries, Entry, Run
from ramengpt.config import load_config

CONSTANT_BATCHES = (
    "schedules.{schedule}.micro_batch_tokens=65536",
    "schedules.{schedule}.scheduled_steps=320",
    "schedules.{schedule}.extension_steps=80",
    "schedules.{schedule}.batch.fractions=[0.0]",
    "schedules.{schedule}.batch.micro_batches=[1]",
    "schedules.{schedule}.learning_rate.cooldown_fraction=0.5",
)
"""Half of the scheduled steps cool down; windows stay the preset's."""
SETTINGS = (
    "dataset=text",
    "model=base",
    "schedule=base",
    *(setting.format(schedule=name) for name in ("base", "small") for setting in CONSTANT_BATCHES),
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
    "normuon": (0.5, 1.0, 2.0),
    "muon": (1.0, 2.0, 4.0),
    "bam": (2.0, 4.0),
    "aro": (1.0, 2.0),
    "adam": (1.4, 2.8),
}
"""Of the learning rate in params.yaml, around what was best in longer runs of a first study."""
EMBEDDING_FACTORS = (0.125,)
"""Values of the schedule's `embedding_factor` beside the one of params.yaml."""
SWEEP_SEED = 1337
SECOND_SEED = 1338
"""With it an optimizer has a GPU to itself, and its held-out loss is a curve."""
THIRD_SEED = 1339
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


def sweep_runs(rates: dict[str, float]) -> list[Run]:
    """Every optimizer over its grid; then embeddings."""
    runs = [
        _optimizer_run(name, scaled_rate(rates[name], factor), SWEEP_SEED)
        for name in OPTIMIZERS
        for factor in FACTORS[name]
    ]
    return runs + [_embedding_run(rates, factor) for factor in EMBEDDING_FACTORS]


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
    """The rate with the lowest loss of the sweep, of each optimizer that has one."""
    swept = done_in(["sweep"], entries.values())
    best: dict[str, float] = {}
    for optimizer in OPTIMIZERS:
        own = [entry for entry in swept if entry["optimizer"] == optimizer]
        if own:
            best[optimizer] = min(own, key=loss_of)["learning_rate"]
    return best


def seeds_runs(rates: dict[str, float], entries: Entries) -> list[Run]:
    """Every optimizer at its best rate with two seeds more; none before the sweep is whole."""
    if any(run.name not in entries for run in sweep_runs(rates)):
        return []
    best = best_rates(entries)
    return [
        _optimizer_run(optimizer, rate, seed)
        for seed in (SECOND_SEED, THIRD_SEED)
        for optimizer, rate in best.items()
    ]


def runs_at(optimizer: str, rate: float, entries: Entries) -> list[Entry]:
    """The finished runs of an optimizer at a rate, of all seeds, with nothing else changed."""
    finished = done_in(["sweep", "seeds"], entries.values())
    return [e for e in finished if (e["optimizer"], e["learning_rate"]) == (optimizer, rate)]


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


def parts_runs(rates: dict[str, float], entries: Entries) -> list[Run]:
    """Every part once at the rate of params.yaml, and once more where it hardly matters.

    The baseline at that rate gets a further seed too, the same run that `seeds` has if it is best.
    """
    rate = rates[BASELINE]
    first = [_part_run(part, rate, SWEEP_SEED) for part in PARTS]
    baseline = [loss_of(entry) for entry in runs_at(BASELINE, rate, entries)]
    tried = done_in(["parts"], [entries[run.name] for run in first if run.name in entries])
    near = [
        entry["part"]
        for entry in tried
        if baseline and abs(loss_of(entry) - statistics.fmean(baseline)) < NEAR_LOSS
    ]
    second = [_part_run(part, rate, SECOND_SEED) for part in near]
    return [*first, _optimizer_run(BASELINE, rate, THIRD_SEED), *second]


def _part_run(part: str, rate: float, seed: int) -> Run:
    settings = (AT_THE_END, *trained_with(BASELINE, rate), *PARTS[part])
    labels = {"stage": "parts", "part": part, "optimizer": BASELINE, "learning_rate": rate}
    name = "".join(letter if letter.isalnum() else "-" for letter in part.partition(":")[0])
    return Run(f"{name}-{seed}", seed, settings, labels)


def small_runs(rates: dict[str, float]) -> list[Run]:
    """The preset `small` under the baseline's optimizer, as params.yaml has it."""
    rate = rates[BASELINE]
    settings = (AS_A_CURVE, "model=small", "schedule=small", *trained_with(BASELINE, rate))
    labels = {"stage": "small", "optimizer": BASELINE, "learning_rate": rate}
    return [Run(f"small-{SWEEP_SEED}", SWEEP_SEED, settings, labels, alone=True)]


STAGES: dict[str, Callable[[dict[str, float], Entries], list[Run]]] = {
    "sweep": lambda rates, _: sweep_runs(rates),
    "seeds": seeds_runs,
    "small": lambda rates, _: small_runs(rates),
    "parts": parts_runs,
}
"""In the order of their runs, which follow from the rates of params.yaml and from what is known."""


def study_runs(stages: Sequence[str], rates: dict[str, float], entries: Entries) -> list[Run]:
    """All runs that some stages want so far, each once, in the order in which they should begin."""
    wanted = [run for name in STAGES if name in stages for run in STAGES[name](rates, entries)]
    return list({run.name: run for run in wanted}.values())
