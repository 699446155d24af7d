"""What each part of the network is worth on real text, with all others as they are.

    python -m benchmarks.parts --out runs/parts --model base --processes 3

Arms: `ramen`; `ramen` with one part more; all parts; all parts without one of them, or with one
more idea; and `speedrun` as params.yaml has it. Every arm is trained with the same seeds, none of
which has chosen anything, on equal tokens; differences are taken seed by seed. `parts.json` in the
folder gains a line with every finished run, `parts.md` has the table. A stopped study resumes with
the same command. `--tables docs/results/parts_base.json` only prints the table of such a record.
"""

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.run_pool import TIMEOUT_SECONDS, PoolOptions, run_all, study_machine
from benchmarks.run_record import DONE, Entries, Entry, Run, RunRecord, read_record
from ramengpt.cli import run_main
from ramengpt.comparison.page import markdown_table
from ramengpt.comparison.tables import TextTable
from ramengpt.files import write_bytes

SEEDS = (4001, 4002, 4003)
SCHEDULES = {
    # Batches of one size; an epoch of the text's first 21 million tokens; half of it cools down.
    "base": (
        "micro_batch_tokens=65536",
        "sequence.tokens=[2048]",
        "scheduled_steps=256",
        "extension_steps=64",
        "batch.fractions=[0.0]",
        "batch.micro_batches=[1]",
        "learning_rate.cooldown_fraction=0.5",
    ),
    # Batches of 131,072, 262,144 and 393,216 tokens by thirds, cooling down from step 120.
    "small": (
        "micro_batch_tokens=65536",
        "scheduled_steps=300",
        "extension_steps=5",
        "batch.fractions=[0.0, 0.3333, 0.6667]",
        "batch.micro_batches=[2, 4, 6]",
        "sequence.fractions=[0.0, 0.3333]",
        "sequence.tokens=[896, 2048]",
        "window.fractions=[0.0, 0.3333, 0.6667]",
        "window.tokens=[384, 896, 1408]",
        "window.validation_tokens=1408",
        "learning_rate.cooldown_fraction=0.6",
    ),
}
RATES = {
    "base": ("optimizers.normuon.learning_rate=0.04", "embedding_adam.learning_rate=0.016"),
    "small": ("optimizers.normuon.learning_rate=0.023", "embedding_adam.learning_rate=0.008"),
}
"""The best that were found for `ramen` at each size; no arm has been tuned by itself."""
SHARED = (
    "dataset=text",
    "optimizer=normuon",
    "validation.tokens=2097152",
    "tracking.wandb=disabled",
    "train.checkpoint_every_steps=0",
)
SWITCHES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bigram embedding": (("bigram_embedding=true",), ("bigram_embedding=false",)),
    "exclusive attention": (("exclusive_attention=true",), ("exclusive_attention=false",)),
    "late attention": (("late_attention=true",), ("late_attention=false",)),
    "dense connections": (("dense_connections=true",), ("dense_connections=false",)),
    "untied value embeddings": (
        ("value_embeddings=untied", "value_embedding_init_std=0.01"),
        ("value_embeddings=shared", "value_embedding_init_std=0.0"),
    ),
    "attention's output not zero": (
        ("attention_init_gain=0.5", "attention_output_init_gain=0.5"),
        ("attention_init_gain=1.0", "attention_output_init_gain=0.0"),
    ),
}
"""What can be added to `ramen`: how it is switched on and off."""
MORE = {
    "multi-token loss": ("architectures.speedrun.multi_token_loss=true",),
    "prefix loss": ("architectures.speedrun.prefix_loss=true",),
    "split value gate": ("architectures.speedrun.split_value_gate=true",),
    "q and k by pairs of heads": ("optimizers.normuon.query_key_block_heads=2",),
    "average for evaluation": ("hooks.evaluation_average.share=0.6",),
}
"""What else could be added when all of those are on."""


def _of(architecture: str, settings: Iterable[str]) -> tuple[str, ...]:
    return (
        f"architecture={architecture}",
        *(f"architectures.{architecture}.{setting}" for setting in settings),
    )


ALL_ON = _of("speedrun", [setting for on, _ in SWITCHES.values() for setting in on])
ARMS: dict[str, tuple[str, ...]] = {
    "all parts": ALL_ON,
    "ramen": _of("ramen", ()),
    "speedrun": _of("speedrun", ()),
    **{
        f"all parts without {part}": (*ALL_ON, *_of("speedrun", off)[1:])
        for part, (_, off) in SWITCHES.items()
    },
    **{f"all parts with {part}": (*ALL_ON, *more) for part, more in MORE.items()},
    **{f"ramen with {part}": _of("ramen", on) for part, (on, _) in SWITCHES.items()},
}


def settings_of(model: str) -> tuple[str, ...]:
    """What all arms of a study share."""
    schedule = tuple(f"schedules.{model}.{setting}" for setting in SCHEDULES[model])
    return (*SHARED, f"model={model}", f"schedule={model}", *schedule, *RATES[model])


def study_runs(arms: Sequence[str], seeds: Sequence[int], every_steps: int) -> list[Run]:
    """Every arm with every seed, the first seed of all arms first."""
    return [
        Run(
            f"{arm.replace(' ', '-').replace(chr(39), '')}-{seed}",
            seed,
            (*ARMS[arm], f"validation.every_steps={every_steps}"),
            {"arm": arm},
        )
        for seed in seeds
        for arm in arms
    ]


def parts_table(entries: Entries) -> str:
    """A row for each arm: mean loss, and its difference from the arm's baseline seed by seed.

    No seconds: runs of the study share a card.
    """
    done: dict[str, dict[int, Entry]] = defaultdict(dict)
    for entry in entries.values():
        if entry["status"] == DONE:
            done[entry["arm"]][entry["seed"]] = entry
    rows = []
    for arm, runs in done.items():
        losses = [run["validation_loss"] for run in runs.values()]
        baseline = "ramen" if arm.startswith("ramen") else "all parts"
        pairs = [
            run["validation_loss"] - done[baseline][seed]["validation_loss"]
            for seed, run in runs.items()
            if arm != baseline and seed in done.get(baseline, {})
        ]
        difference = f"{fmean(pairs):+.4f} ± {_standard_error(pairs)}" if pairs else "-"
        spread = f"{stdev(losses):.4f}" if len(losses) > 1 else "-"
        rows.append([arm, f"{fmean(losses):.4f}", spread, difference, str(len(losses))])
    header = ["arm", "held-out loss", "sd", "Δ by seed ± standard error", "seeds"]
    failed = [entry for entry in entries.values() if entry["status"] != DONE]
    lines = [markdown_table(TextTable(header, rows))]
    lines += [f"failed: {entry['name']}: {entry['error']}" for entry in failed]
    return "\n".join(lines) + "\n"


def _standard_error(values: Sequence[float]) -> str:
    return f"{stdev(values) / math.sqrt(len(values)):.4f}" if len(values) > 1 else "?"


def run_study(
    model: str, arms: Sequence[str], seeds: Sequence[int], options: PoolOptions, every_steps: int
) -> bool:
    """Run the arms as far as the time allows; write and print the table at the end."""
    about = {"settings": list(options.settings), "machine": study_machine(), "model": model}
    record = RunRecord(options.folder / "parts.json", about)
    runs = study_runs(arms, seeds, every_steps)
    try:
        return run_all(lambda _: runs, record, options)
    finally:
        page = parts_table(record.entries)
        write_bytes(options.folder / "parts.md", page.encode())
        print(f"\n{page}", flush=True)


def main() -> None:
    """Run the study, or print the table of one.

    Raises:
        SystemExit: with status 1 if there was too little time.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("runs/parts"))
    parser.add_argument("--model", choices=sorted(SCHEDULES), default="base")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--processes", type=int, default=3, help="runs at a time on one GPU")
    parser.add_argument("--every_steps", type=int, default=1_000_000, help="between validations")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin nothing after")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--tables", type=Path, metavar="JSON", help="print its table and stop")
    arguments = parser.parse_args()
    if arguments.tables:
        print(parts_table(read_record(arguments.tables)[1]), end="")
        return
    options = PoolOptions(
        arguments.out,
        (*settings_of(arguments.model), *arguments.set),
        arguments.processes,
        TIMEOUT_SECONDS,
        time.monotonic() + arguments.seconds,
    )
    if not run_study(
        arguments.model, arguments.arms, arguments.seeds, options, arguments.every_steps
    ):
        print("the time is over; the same command resumes", flush=True)
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main)
