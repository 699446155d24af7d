"""What the study runs: settings as data, and for each stage the runs that are wanted so far.

Every run takes 320 steps of 65,536 tokens. These 20,971,520 are just under one epoch of the
text: 21.1 million tokens when a document contributes its first 2048.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from benchmarks.learning_rate_sweep import trained_with
from benchmarks.optimizer_step import OPTIMIZERS
from benchmarks.results.search import Point, grid, points_to_try
from benchmarks.run_record import DONE, Entries, Entry, Run

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
"""The reference optimizer of the table."""
FIRST_RATES = {
    "normuon": (0.02, 0.04, 0.08),
    "muon": (0.01, 0.02, 0.04),
    "bam": (0.005, 0.01, 0.02),
    "aro": (0.004, 0.008, 0.016),
    "adam": (0.0014, 0.0028, 0.0056),
}
FIRST_EMBEDDING_RATES = (0.008, 0.016, 0.032)
"""Where the searches begin."""
SWEEP_SEED = 1337
SECOND_SEED = 1338
"""With it an optimizer has a GPU to itself, and its held-out loss is a curve."""
THIRD_SEED = 1339
NEAR_LOSS = 0.02
"""A part that changes the loss by less gets a second seed."""

SWITCHES = {
    "value embeddings": "architectures.ramen.value_embeddings=none",
    "attention gate": "architectures.ramen.attention_gate=false",
    "smear": "architectures.ramen.smear=false",
    "skip connection": "architectures.ramen.skip_connection=false",
    "backout": "architectures.ramen.backout=false",
    "key offset": "architectures.ramen.key_offset=false",
}
WITHOUT_YARN = "architectures.ramen.yarn=false"
LAST_WINDOW = ("schedules.base.window.fractions=[0.0]", "schedules.base.window.tokens=[512]")
FIRST_WINDOW = (
    "schedules.base.window.fractions=[0.0]",
    "schedules.base.window.tokens=[384]",
    "schedules.base.window.validation_tokens=384",
)
ALWAYS_TIED = "schedules.base.embedding_split_fraction=1.0"
PARTS = {
    **{f"without {part}": (setting,) for part, setting in SWITCHES.items()},
    "swiglu": ("architectures.ramen.activation=swiglu",),
    "embedding and head never one": ("schedules.base.embedding_split_fraction=0.0",),
    "embedding and head always one": (ALWAYS_TIED,),
    "window 512 from the start": LAST_WINDOW,
    "head in float8": ("train.float8_head=true",),
    "window 384 to the end": FIRST_WINDOW,
    "without YaRN": (WITHOUT_YARN,),
    "plain: all of these off": (*SWITCHES.values(), WITHOUT_YARN, *LAST_WINDOW, ALWAYS_TIED),
}
"""Each is one change to the baseline, but for "plain", which keeps only the activation."""


def sweep_runs(entries: Entries) -> list[Run]:
    """The runs of every optimizer's search so far."""
    return [
        _optimizer_run(optimizer, point, SWEEP_SEED)
        for optimizer in OPTIMIZERS
        for point in _searched(optimizer, entries)
    ]


def _searched(optimizer: str, entries: Entries) -> list[Point]:
    first = grid(FIRST_RATES[optimizer], FIRST_EMBEDDING_RATES)
    return points_to_try(first, losses_tried(optimizer, entries))


def losses_tried(optimizer: str, entries: Entries) -> dict[Point, float]:
    """Validation losses of an optimizer's sweep, infinite where a run failed."""
    return {
        point_of(entry): loss_of(entry) if entry["status"] == DONE else math.inf
        for entry in entries.values()
        if (entry["stage"], entry["optimizer"]) == ("sweep", optimizer)
    }


def point_of(entry: Entry) -> Point:
    """The learning rates of a run."""
    return Point(entry["learning_rate"], entry["embedding_rate"])


def loss_of(entry: Entry) -> float:
    """Validation loss of a finished run."""
    return float(entry["validation_loss"])


def _optimizer_run(optimizer: str, point: Point, seed: int) -> Run:
    timed = seed == SECOND_SEED
    return Run(
        f"{optimizer}-{_text_of(point)}-{seed}",
        seed,
        (AS_A_CURVE if timed else AT_THE_END, *trained_at(optimizer, point)),
        _labels("sweep" if seed == SWEEP_SEED else "seeds", optimizer, point),
        alone=timed,
    )


def trained_at(optimizer: str, point: Point) -> tuple[str, ...]:
    """The settings that select an optimizer and its learning rates."""
    embeddings = f"embedding_adam.learning_rate={point.embedding_rate}"
    return (*trained_with(optimizer, point.learning_rate), embeddings)


def _text_of(point: Point) -> str:
    return "-".join(f"{rate:g}" for rate in point)


def _labels(stage: str, optimizer: str, point: Point) -> dict[str, str | float]:
    return {"stage": stage, "optimizer": optimizer, **point._asdict()}


def best_points(entries: Entries) -> dict[str, Point]:
    """Where the loss is lowest so far, of each optimizer with a finished run in the sweep."""
    best: dict[str, Point] = {}
    for optimizer in OPTIMIZERS:
        losses = losses_tried(optimizer, entries)
        in_order = [*_searched(optimizer, entries), *losses]  # of equals the search takes the first
        tried = [point for point in in_order if losses.get(point, math.inf) < math.inf]
        if tried:
            best[optimizer] = min(tried, key=lambda point: losses[point])
    return best


def final_points(entries: Entries) -> dict[str, Point]:
    """The best of each optimizer whose search has ended."""
    return {
        optimizer: best
        for optimizer, best in best_points(entries).items()
        if set(_searched(optimizer, entries)) <= set(losses_tried(optimizer, entries))
    }


def runs_at(optimizer: str, point: Point, entries: Entries) -> list[Entry]:
    """The finished runs of an optimizer at a point, of all seeds, with nothing else changed."""
    finished = done_in(["sweep", "seeds"], entries.values())
    return [e for e in finished if (e["optimizer"], point_of(e)) == (optimizer, point)]


def done_in(stages: Sequence[str], entries: Iterable[Entry]) -> list[Entry]:
    """The finished runs of some stages."""
    return [entry for entry in entries if entry["stage"] in stages and entry["status"] == DONE]


def seeds_runs(entries: Entries) -> list[Run]:
    """Every optimizer at its best with two more seeds, once its search has ended."""
    best = final_points(entries).items()
    return [
        _optimizer_run(optimizer, point, seed)
        for seed in (SECOND_SEED, THIRD_SEED)
        for optimizer, point in best
    ]


def parts_runs(entries: Entries) -> list[Run]:
    """Every part once at the baseline's best rates; a second seed for parts that hardly matter.

    None before the baseline's search has ended, and no second seed before the baseline has three.
    """
    point = final_points(entries).get(BASELINE)
    if point is None:
        return []
    second, third = (_optimizer_run(BASELINE, point, seed) for seed in (SECOND_SEED, THIRD_SEED))
    runs = [third, *(_part_run(part, point, SWEEP_SEED) for part in PARTS), second]
    if third.name not in entries:
        return runs
    baseline = statistics.fmean(
        loss_of(entry) for entry in runs_at(BASELINE, point, entries) if not entry["alone"]
    )
    tried = done_in(["parts"], [entries[run.name] for run in runs if run.name in entries])
    near = [entry["part"] for entry in tried if abs(loss_of(entry) - baseline) < NEAR_LOSS]
    return [*runs, *(_part_run(part, point, SECOND_SEED) for part in near)]


def _part_run(part: str, point: Point, seed: int) -> Run:
    settings = (AT_THE_END, *trained_at(BASELINE, point), *PARTS[part])
    labels = _labels("parts", BASELINE, point) | {"part": part}
    part_name = "".join(letter if letter.isalnum() else "-" for letter in part.partition(":")[0])
    return Run(f"{part_name}-{_text_of(point)}-{seed}", seed, settings, labels)


def small_runs(entries: Entries) -> list[Run]:
    """The preset `small` where the baseline is best."""
    point = final_points(entries).get(BASELINE)
    if point is None:
        return []
    settings = (AS_A_CURVE, *trained_at(BASELINE, point), "model=small", "schedule=small")
    labels = _labels("small", BASELINE, point)
    name = f"small-{_text_of(point)}-{SWEEP_SEED}"
    return [Run(name, SWEEP_SEED, settings, labels, alone=True)]


STAGES: dict[str, Callable[[Entries], list[Run]]] = {
    "sweep": sweep_runs,
    "small": small_runs,
    "seeds": seeds_runs,
    "parts": parts_runs,
}
"""In the order of their runs, which follow from what is known."""


def study_runs(stages: Sequence[str], entries: Entries) -> list[Run]:
    """All runs that some stages ask for so far, each once, in the order in which to start them."""
    wanted = [run for name in STAGES if name in stages for run in STAGES[name](entries)]
    return list({run.name: run for run in wanted}.values())


def sweep_is_missing(stages: Sequence[str], entries: Entries) -> bool:
    """Whether stages without the sweep need a best point that is not known yet."""
    needed = {"seeds": OPTIMIZERS, "small": (BASELINE,), "parts": (BASELINE,)}
    known = final_points(entries)
    return "sweep" not in stages and any(
        name not in known for stage in stages for name in needed[stage]
    )
