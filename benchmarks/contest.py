"""A contest on one GPU: the optimizer and the learning-rate schedule are free, all else is fixed.

    python -m benchmarks.contest --name "my optimizer" --set optimizer=mine --set optimizers.mine...

trains the baseline with ten seeds, which give the target and the noise, then the entry with as many
as --seeds says, the same ones; what the study's record or contest.json in the folder holds already
is not repeated. Then
leaderboard.md beside it has every entry, first those of the study. Without --name only the baseline
is trained. The data set is FineWeb or, with `--data text`, the text under data/text; its checksums
are part of the record, so that entries on other data are refused.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.report import study_machine
from benchmarks.run_record import DIVERGED, DONE, Entries, Entry, Run, RunRecord, read_record
from benchmarks.study.protocol import evaluated
from benchmarks.study.tables import losses_of, p_text, tokens_to
from benchmarks.study.task import TASKS, Task, data_checksum, evaluation_seeds
from benchmarks.study_command import pool_options, run_and_report, study_parser
from ramengpt.cli import run_main
from ramengpt.comparison.page import markdown_table
from ramengpt.comparison.statistics import holm, mean_of, paired_t
from ramengpt.comparison.tables import TextTable
from ramengpt.errors import UserError
from ramengpt.progress import scaled

TASK = TASKS["base"]
DATA = ("fineweb10B", "text")
BASELINE = "muon_jordan"
BASELINE_SEEDS = 10
LEAST_SEEDS = 5
SIGNIFICANT = 0.01
"""One-sided, after Holm's correction over all entries."""
CONFIDENCE = 0.95
UNKNOWN = "-"
STUDY = Path("docs/results/study_base.json")
FREE = (
    "optimizer=", "optimizers.", "momentum_schedules.", "polynomials.", "bases.", "hooks.",
    "embedding_adam.", "scalar_adam.", "gradient_clipping.", "parameters.",
    f"schedules.{TASK.model}.learning_rate.", f"schedules.{TASK.model}.embedding_split_fraction=",
    f"schedules.{TASK.model}.scalar_freeze_steps=",
)  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """An entry on the leaderboard.

    Attributes:
        name: of the entry.
        runs: by seed.
        p_value: one-sided, of no gain over the baseline, corrected; NaN of one that diverged.
    """

    name: str
    runs: Mapping[int, Entry]
    p_value: float

    @property
    def mean(self) -> float:
        """Of the losses; infinite where a run diverged."""
        return fmean(losses_of(self.runs).values())


def check_free(settings: Sequence[str]) -> None:
    """Refuse an entry that changes what is fixed.

    Raises:
        UserError: names the first setting.
    """
    for setting in settings:
        if not setting.startswith(FREE):
            raise UserError(
                f"--set {setting}: the contest fixes it; free are {', '.join(FREE)} and new code "
                "under ramengpt/optimizers"
            )


def contest_runs(name: str, settings: Sequence[str], seeds: int) -> list[Run]:
    """The runs of an entry, or of the baseline."""
    folder = re.sub(r"[^\w.-]", "-", name)
    validated = TASK.validated(1, often=True)
    return [
        Run(f"{folder}-{seed}", seed, (*settings, validated), {"entry": name})
        for seed in evaluation_seeds(seeds)
    ]


def baseline_settings(study: Entries) -> tuple[str, ...]:
    """The baseline as the study tuned it.

    Raises:
        UserError: the study has not evaluated it.
    """
    runs = evaluated(study, BASELINE, 1)
    if not runs:
        raise UserError(f"--study: it has no evaluation of {BASELINE}, the contest's baseline")
    settings = next(iter(runs.values()))["settings"]
    return tuple(each for each in settings if not each.startswith("validation."))


def runs_of(entries: Entries, name: str) -> dict[int, Entry]:
    """The runs of an entry that have ended, by seed."""
    return {
        entry["seed"]: entry
        for entry in entries.values()
        if entry["entry"] == name and entry["status"] in (DONE, DIVERGED)
    }


def baseline_of(contest: Entries, study: Entries) -> dict[int, Entry]:
    """The baseline's runs by seed: those of the study, which trains the same, and the contest's."""
    return evaluated(study, BASELINE, 1) | runs_of(contest, BASELINE)


def standings(contest: Entries, study: Entries) -> list[Standing]:
    """All entries with enough seeds, the lowest loss first; the study's arms are among them."""
    baseline = losses_of(baseline_of(contest, study))
    arms = dict.fromkeys(entry["arm"] for entry in study.values())
    entered = {arm: evaluated(study, arm, 1) for arm in arms}
    names = dict.fromkeys(entry["entry"] for entry in contest.values())
    entered |= {name: runs_of(contest, name) for name in names}
    entered = {
        name: runs
        for name, runs in entered.items()
        if name != BASELINE and len(runs) >= LEAST_SEEDS
    }
    raw = [_one_sided(losses_of(runs), baseline) for runs in entered.values()]
    found = [
        Standing(name, runs, p_value)
        for (name, runs), p_value in zip(entered.items(), holm(raw), strict=True)
    ]
    return sorted(found, key=lambda standing: standing.mean)


def _one_sided(losses: Mapping[int, float], baseline: Mapping[int, float]) -> float:
    if math.inf in losses.values() or len(losses.keys() & baseline.keys()) < LEAST_SEEDS:
        return math.nan
    difference = paired_t(losses, baseline, CONFIDENCE)
    half = difference.p_value / 2
    return half if difference.value < 0 else 1 - half


def leaderboard(about: Mapping[str, Any], contest: Entries, study: Entries) -> str:
    """The page: target and noise, then a row for each entry.

    Nothing is said to beat the target before the baseline has all its runs.
    """
    losses = list(losses_of(baseline_of(contest, study)).values())
    if len(losses) < 2 or math.inf in losses:
        return f"# Leaderboard\n\nThe baseline has {len(losses)} of its {BASELINE_SEEDS} runs.\n"
    settled = len(losses) >= BASELINE_SEEDS
    target, noise = fmean(losses), stdev(losses)
    rows = [["", f"{BASELINE} (baseline)", *_cells(losses, target), UNKNOWN, UNKNOWN, UNKNOWN]]
    for rank, standing in enumerate(standings(contest, study), 1):
        reached = tokens_to(standing.runs.values(), target)
        verdict = "yes" if standing.p_value < SIGNIFICANT else "no"
        rows.append(
            [
                str(rank),
                standing.name,
                *_cells(list(losses_of(standing.runs).values()), target),
                UNKNOWN if math.isnan(standing.p_value) else p_text(standing.p_value),
                UNKNOWN if reached is None else scaled(reached, "").strip(),
                verdict if settled else UNKNOWN,
            ]
        )
    header = ["", "entry", "held-out loss", "seeds", "Δ to the target", "p"]
    header += ["tokens to it", "beats it"]
    head = (
        f"# Leaderboard\n\nTarget {target:.4f} nats/token: the mean of {len(losses)} runs of "
        f"{BASELINE}, whose losses have a standard deviation of {noise:.4f}. Shards "
        f"{about['data']}."
    )
    if not settled:
        head += f" The target is provisional until the baseline has {BASELINE_SEEDS} runs."
    return f"{head}\n\n{markdown_table(TextTable(header, rows))}\n"


def _cells(losses: Sequence[float], target: float) -> list[str]:
    if math.inf in losses:
        diverged = list(losses).count(math.inf)
        return [f"{diverged} diverged", str(len(losses)), UNKNOWN]
    mean = mean_of(losses, CONFIDENCE)
    text = f"{mean.value:.4f} ± {mean.half_width:.4f}"
    return [text, str(mean.count), f"{mean.value - target:+.4f}"]


def settings_on(task: Task, data: str) -> tuple[str, ...]:
    """What all runs share, with the data set in place of the study's text."""
    return tuple(
        setting.replace("dataset=text", f"dataset={data}").replace(
            "reading.text.", f"reading.{data}."
        )
        for setting in task.lasting(1)
    )


def main() -> None:
    """Train what is missing, then write and print the leaderboard.

    Raises:
        SystemExit: with status 1 if there was too little time.
        UserError: the entry changes what is fixed, has too few seeds, or its data is another.
    """
    parser = study_parser("contest", __doc__, processes=1)
    parser.add_argument("--name", help="of the entry; without it only the baseline is trained")
    parser.add_argument(
        "--shared", action="append", default=[], metavar="KEY=VALUE", help="of all runs, recorded"
    )
    parser.add_argument("--seeds", type=int, default=BASELINE_SEEDS, help="of the entry")
    parser.add_argument("--data", choices=DATA, default=DATA[0])
    parser.add_argument("--study", type=Path, default=STUDY, metavar="JSON")
    arguments = parser.parse_args()
    check_free(arguments.set)
    if arguments.seeds < LEAST_SEEDS:
        raise UserError(f"--seeds: expected at least {LEAST_SEEDS}, found {arguments.seeds}")
    about_study, study = read_record(arguments.study)
    settings = (*settings_on(TASK, arguments.data), *arguments.shared)
    versions = {name: value for name, value in study_machine().items() if name != "gpu"}
    about = {
        "settings": list(settings),
        "machine": versions,
        "data": data_checksum(),
    }
    tuned = baseline_settings(study)
    if not about.items() <= about_study.items():
        study = {}  # trained another data set, or with other versions
    record = RunRecord(arguments.out / "contest.json", about)
    runs = contest_runs(BASELINE, tuned, BASELINE_SEEDS)
    runs = [run for run in runs if run.seed not in evaluated(study, BASELINE, 1)]
    if arguments.name:
        runs += contest_runs(arguments.name, arguments.set, arguments.seeds)
    run_and_report(
        lambda _: runs,
        record,
        pool_options(arguments, settings),
        "leaderboard.md",
        lambda: leaderboard(record.about, record.entries, study),
    )


if __name__ == "__main__":
    run_main(main)
