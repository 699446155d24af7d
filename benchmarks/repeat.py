"""Train all runs of a record again, each with its own settings and seed, and compare the losses.

    python -m benchmarks.repeat docs/results/order_base.json

The data that the record was made with must be there; repeat.json in the folder gains a line with
every run that ends, and the same command resumes.
"""

from pathlib import Path
from statistics import fmean

from benchmarks.report import study_machine
from benchmarks.run_record import DONE, Entries, Run, RunRecord, read_record
from benchmarks.study_command import pool_options, run_and_report, study_parser
from ramengpt.cli import run_main
from ramengpt.comparison.page import markdown_table
from ramengpt.comparison.tables import TextTable


def recorded_runs(entries: Entries) -> list[Run]:
    """The runs of a record that ended with a loss; the contest's are grouped by their entry."""
    return [
        Run(
            entry["name"],
            entry["seed"],
            tuple(entry["settings"]),
            {"arm": entry.get("arm") or entry["entry"]},
            entry["alone"],
        )
        for entry in entries.values()
        if entry["status"] == DONE
    ]


def repeat_table(recorded: Entries, repeated: Entries) -> str:
    """Mean losses of each arm, over the runs that have been repeated."""
    arms: dict[str, list[tuple[float, float]]] = {}
    for name, entry in repeated.items():
        if entry["status"] == DONE:
            losses = recorded[name]["validation_loss"], entry["validation_loss"]
            arms.setdefault(entry["arm"], []).append(losses)
    rows = []
    for arm, pairs in arms.items():
        before, now = (fmean(losses) for losses in zip(*pairs, strict=True))
        rows.append([arm, str(len(pairs)), f"{before:.4f}", f"{now:.4f}", f"{now - before:+.4f}"])
    return markdown_table(TextTable(["arm", "runs", "recorded", "repeated", "difference"], rows))


def main() -> None:
    """Repeat a record.

    Raises:
        SystemExit: with status 1 if there was too little time.
        UserError: the file is no record.
    """
    parser = study_parser("repeat", __doc__, processes=3)
    parser.add_argument("record", type=Path, help="a file in docs/results/")
    arguments = parser.parse_args()
    about, recorded = read_record(arguments.record)
    shared = [*about["settings"], *arguments.set]
    settings = tuple(each for each in shared if "=" in each)
    run_arguments = tuple(each for each in shared if "=" not in each)
    options = pool_options(arguments, settings, run_arguments)
    record = RunRecord(
        arguments.out / "repeat.json",
        {"settings": shared, "machine": study_machine(), "of": str(arguments.record)},
    )
    runs = recorded_runs(recorded)
    run_and_report(
        lambda _: runs, record, options, "repeat.md", lambda: repeat_table(recorded, record.entries)
    )


if __name__ == "__main__":
    run_main(main)
