"""Tune every arm alike, compare them on fresh seeds, and write the tables.

    python -m benchmarks.study --out runs/study --processes 3

trains `model=base` on `dataset=text` (the text lies under data/text; `--model instant` takes
docstrings and two CPU cores). An arm is an optimizer of params.yaml, or one with a hook, as in
`--arms normuon normuon+evaluation_average`. benchmarks/study/protocol.py says what is run,
benchmarks/study/space.py where it is searched. study.json in the folder gains a line with every run
that ends; the same command resumes a stopped study, on as many GPUs as there are then. At the end
study.md has the tables.

`--tables docs/results/study_base.json` only prints the tables of such a record, `--publish` with it
writes them into docs/ and README.md, and the values that were found into params.yaml.
"""

import argparse
from pathlib import Path

from benchmarks.report import study_machine
from benchmarks.run_record import RunRecord, read_record
from benchmarks.study.arms import arm_called
from benchmarks.study.page import study_page
from benchmarks.study.pictures import write_pictures
from benchmarks.study.protocol import Study
from benchmarks.study.publish import publish
from benchmarks.study.space import RATES
from benchmarks.study.task import TASKS, data_checksum
from benchmarks.study_command import pool_options, run_and_report, study_parser
from ramengpt.cli import run_main


def command_line() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = study_parser("study", __doc__, processes=3)
    parser.add_argument("--model", choices=list(TASKS), default="base")
    parser.add_argument("--arms", nargs="+", default=list(RATES), metavar="OPTIMIZER[+HOOK]")
    parser.add_argument(
        "--trials", nargs=2, type=int, default=(8, 8), metavar="N", help="of rates, of the rest"
    )
    parser.add_argument("--seeds", type=int, default=5, help="of every arm's evaluation")
    parser.add_argument("--timed", action="store_true", help="then time each arm on a GPU alone")
    parser.add_argument(
        "--lengths", nargs="+", type=int, default=(), help="evaluate also at N times the tokens"
    )
    parser.add_argument("--tables", type=Path, metavar="JSON", help="print its tables and stop")
    parser.add_argument("--publish", type=Path, metavar="JSON", help="see above, and stop")
    return parser


def main() -> None:
    """Run the study, or print or publish the tables of one."""
    arguments = command_line().parse_args()
    if arguments.tables:
        print(study_page(*read_record(arguments.tables)), end="")
    elif arguments.publish:
        publish(arguments.publish, Path())
    else:
        run_study(arguments)


def run_study(arguments: argparse.Namespace) -> None:
    """Run what the folder's record lacks; write the page and the pictures, however that ends.

    Raises:
        SystemExit: with status 1 if there was too little time.
        UserError: the folder's runs come from other versions or had other settings.
    """
    study = Study(
        TASKS[arguments.model],
        tuple(arm_called(name) for name in arguments.arms),
        tuple(arguments.trials),
        arguments.seeds,
        arguments.timed,
        tuple(arguments.lengths),
        tuple(arguments.set),
    )
    options = pool_options(arguments, study.shared_settings)
    about = {
        "settings": list(options.settings),
        "machine": {name: value for name, value in study_machine().items() if name != "gpu"},
        "data": data_checksum(),
        "trials": list(study.trials),
        "seeds": study.seeds,
    }
    record = RunRecord(options.folder / "study.json", about)
    try:
        run_and_report(
            study.runs,
            record,
            options,
            "study.md",
            lambda: study_page(record.about, record.entries),
        )
    finally:
        write_pictures(options.folder, record.about, record.entries)


if __name__ == "__main__":
    run_main(main)
