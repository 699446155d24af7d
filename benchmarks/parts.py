"""What each part of the network changes on real text, with all others as they are.

    python -m benchmarks.parts --out runs/parts --model base --processes 3
    python -m benchmarks.parts --out runs/small --model small --early_stop_steps 201 --alone

Arms: `ramen` and `speedrun` as params.yaml has them, each without one of its parts, and each with
one that it has not. Every arm is trained with the same seeds, none of which has chosen anything, on
equal tokens; differences are taken seed by seed. `parts.json` in the folder gains a line with every
finished run, `parts.md` has the table. A stopped study resumes with the same command. With
`--alone` each run has a GPU to itself, so that the table has seconds too.
`--tables docs/results/parts_base.json` only prints the table of such a record.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.report import study_machine
from benchmarks.run_record import DONE, Entries, Entry, Run, RunRecord, read_record
from benchmarks.study_command import pool_options, run_and_report, study_parser
from ramengpt.cli import run_main
from ramengpt.comparison.page import markdown_table
from ramengpt.comparison.tables import TextTable
from ramengpt.config import load_config
from ramengpt.errors import UserError

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
    "reading.text.order=sequential",
    "validation.tokens=2097152",
    "tracking.wandb=disabled",
    "train.checkpoint_every_steps=0",
)
Switch = tuple[tuple[str, ...], tuple[str, ...]]
PARTS: dict[str, Switch] = {
    "bigram embedding": (("bigram_embedding=true",), ("bigram_embedding=false",)),
    "exclusive attention": (("exclusive_attention=true",), ("exclusive_attention=false",)),
    "untied value embeddings": (
        ("value_embeddings=untied", "value_embedding_init_std=0.01"),
        ("value_embeddings=shared", "value_embedding_init_std=0.0"),
    ),
    "attention's output not zero": (
        ("attention_init_gain=0.5", "attention_output_init_gain=0.5"),
        ("attention_init_gain=1.0", "attention_output_init_gain=0.0"),
    ),
    "late attention": (("late_attention=true",), ("late_attention=false",)),
    "dense connections": (("dense_connections=true",), ("dense_connections=false",)),
    "paired heads": (("paired_heads=true",), ("paired_heads=false",)),
    "value residual": (("value_residual=true",), ("value_residual=false",)),
    "gains by sublayer": (("sublayer_gains=true",), ("sublayer_gains=false",)),
    "gains by token": (("token_gains=true",), ("token_gains=false",)),
    "hyper-connections": (("hyper_connections=true",), ("hyper_connections=false",)),
    "multi-token loss": (("multi_token_loss=true",), ("multi_token_loss=false",)),
    "prefix loss": (("prefix_loss=true",), ("prefix_loss=false",)),
    "q and k by pairs of heads": (
        ("parameters={attention: {query_key_block_heads: 2}}",),
        ("parameters={}",),
    ),
}
"""How each is switched on and off in an architecture."""
OF_BIGRAMS: dict[str, Switch] = {
    "bigrams after attention": (
        ("bigram_after_attention=true",),
        ("bigram_after_attention=false",),
    ),
    "7.5 vocabularies of bigrams": (("bigram_vocabularies=7.5",), ("bigram_vocabularies=5.0",)),
    "split value gate": (("split_value_gate=true",), ("split_value_gate=false",)),
}
"""Forms of parts that only `speedrun` has."""
TRAINING: dict[str, Switch] = {
    "average for evaluation": (
        (
            "hooks.evaluation_average.share=0.8",
            "hooks.evaluation_average.start_fraction=0.3",
            "hooks.evaluation_average.horizon_fraction=0.04",
        ),
        ("hooks.evaluation_average.share=0.0",),
    ),
    "no epsilon": (
        ("embedding_adam.epsilon=1e-15", "scalar_adam.epsilon=1e-15"),
        ("embedding_adam.epsilon=1e-8", "scalar_adam.epsilon=1e-8"),
    ),
    "Adam's betas by label": (
        (
            *(f"parameters.{label}.beta1=0.5" for label in ("head", "embedding")),
            *(
                f"parameters.{label}.beta1=0.75"
                for label in ("value_embedding", "bigram_embedding")
            ),
        ),
        (),
    ),
    "slower bigram gains": (
        ("parameters.bigram_lambda.lr_mul=1.0",),
        ("parameters.bigram_lambda.lr_mul=5.0",),
    ),
}
"""How either is trained."""
BASELINES = ("ramen", "speedrun")


def study_arms(settings: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Both architectures; each without every part that it has, and with every part that it has not.

    Args:
        settings: what all arms share, as `key=value`.

    Returns:
        By its name, what an arm adds to these.
    """
    arms: dict[str, tuple[str, ...]] = {}
    for baseline in BASELINES:
        arms[baseline] = own = (f"architecture={baseline}",)
        config = load_config([*settings, *own])
        parts = PARTS | OF_BIGRAMS if baseline == "speedrun" else PARTS
        switches = {name: _within(baseline, switch) for name, switch in parts.items()} | TRAINING
        for name, (on, off) in switches.items():
            if load_config([*settings, *own, *on]) == config:
                arms[f"{baseline} without {name}"] = (*own, *off)
            else:
                arms[f"{baseline} with {name}"] = (*own, *on)
    return arms


def _within(architecture: str, switch: Switch) -> Switch:
    on, off = switch
    prefix = f"architectures.{architecture}."
    return tuple(prefix + setting for setting in on), tuple(prefix + setting for setting in off)


def settings_of(model: str) -> tuple[str, ...]:
    """What all arms of a study share."""
    schedule = tuple(f"schedules.{model}.{setting}" for setting in SCHEDULES[model])
    return (*SHARED, f"model={model}", f"schedule={model}", *schedule, *RATES[model])


def study_runs(
    arms: Mapping[str, tuple[str, ...]], seeds: Sequence[int], every_steps: int, *, alone: bool
) -> list[Run]:
    """Every arm with every seed, the first seed of all arms first."""
    return [
        Run(
            f"{arm.replace(' ', '-').replace(chr(39), '')}-{seed}",
            seed,
            (*settings, f"validation.every_steps={every_steps}"),
            {"arm": arm},
            alone,
        )
        for seed in seeds
        for arm, settings in arms.items()
    ]


def parts_table(entries: Entries) -> str:
    """A row for each arm: mean loss, and its difference from the arm's baseline seed by seed.

    Seconds, without compilation, are those of runs that had a card to themselves.
    """
    done: dict[str, dict[int, Entry]] = defaultdict(dict)
    for entry in entries.values():
        if entry["status"] == DONE:
            done[entry["arm"]][entry["seed"]] = entry
    any_alone = any(run.get("alone") for runs in done.values() for run in runs.values())
    rows = []
    for arm, runs in done.items():
        losses = [run["validation_loss"] for run in runs.values()]
        baseline = arm.partition(" with")[0]
        pairs = [
            run["validation_loss"] - done[baseline][seed]["validation_loss"]
            for seed, run in runs.items()
            if arm != baseline and seed in done.get(baseline, {})
        ]
        difference = f"{fmean(pairs):+.4f} ± {_standard_error(pairs)}" if pairs else "-"
        spread = f"{stdev(losses):.4f}" if len(losses) > 1 else "-"
        seconds = [run["steady_seconds"] for run in runs.values() if run.get("alone")]
        timed = [f"{fmean(seconds):.1f}" if seconds else "-"] if any_alone else []
        rows.append([arm, f"{fmean(losses):.4f}", spread, difference, str(len(losses)), *timed])
    header = ["arm", "held-out loss", "sd", "Δ by seed ± standard error", "seeds"]
    header += ["seconds"] if any_alone else []
    failed = [entry for entry in entries.values() if entry["status"] != DONE]
    lines = [markdown_table(TextTable(header, rows))]
    lines += [f"failed: {entry['name']}: {entry['error']}" for entry in failed]
    return "\n".join(lines) + "\n"


def _standard_error(values: Sequence[float]) -> str:
    return f"{stdev(values) / math.sqrt(len(values)):.4f}" if len(values) > 1 else "?"


def _chosen(
    names: Sequence[str] | None, arms: dict[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    unknown = [name for name in names or () if name not in arms]
    if unknown:
        raise UserError(f"--arms: there is no {unknown[0]!r}; there are {', '.join(arms)}")
    return {name: arms[name] for name in names or arms}


def main() -> None:
    """Run the study, or print the table of one.

    Raises:
        SystemExit: with status 1 if there was too little time.
    """
    parser = study_parser("parts", __doc__, processes=3)
    parser.add_argument("--model", choices=sorted(SCHEDULES), default="base")
    parser.add_argument("--arms", nargs="+", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--alone", action="store_true", help="each run has a GPU to itself")
    parser.add_argument("--early_stop_steps", type=int, metavar="N", help="of every run")
    parser.add_argument("--every_steps", type=int, default=1_000_000, help="between validations")
    parser.add_argument("--tables", type=Path, metavar="JSON", help="print its table and stop")
    arguments = parser.parse_args()
    if arguments.tables:
        print(parts_table(read_record(arguments.tables)[1]), end="")
        return
    steps = arguments.early_stop_steps
    settings = (*settings_of(arguments.model), *arguments.set)
    run_arguments = ("--early_stop_steps", str(steps)) if steps else ()
    options = pool_options(arguments, settings, run_arguments)
    runs = study_runs(
        _chosen(arguments.arms, study_arms(settings)),
        arguments.seeds,
        arguments.every_steps,
        alone=arguments.alone,
    )
    about = {
        "settings": [*settings, *run_arguments],
        "machine": study_machine(),
        "model": arguments.model,
    }
    record = RunRecord(arguments.out / "parts.json", about)
    run_and_report(lambda _: runs, record, options, "parts.md", lambda: parts_table(record.entries))


if __name__ == "__main__":
    run_main(main)
