"""Tune every arm alike, compare them on fresh seeds, and write the tables.

    python -m benchmarks.study --out runs/study --processes 3

trains `model=base` on `dataset=text` (the text lies under data/text; `--model instant` takes
docstrings and two CPU cores). An arm is an optimizer of params.yaml, or one with a hook, as in
`--arms normuon normuon+evaluation_average`. benchmarks/study/protocol.py says what is run,
benchmarks/study/space.py where it is searched. study.json in the folder gains a line with every run
that ends; the same command resumes a stopped study, on as many GPUs as there are then. At the end
study.md has the tables.

`--tables docs/results/study_base.json` only prints the tables of such a record.
"""

import argparse
import math
import time
from pathlib import Path

from benchmarks.run_pool import TIMEOUT_SECONDS, PoolOptions, run_all, study_machine
from benchmarks.run_record import RunRecord, read_record
from benchmarks.study.arms import arm_called
from benchmarks.study.pictures import write_pictures
from benchmarks.study.protocol import Study
from benchmarks.study.space import RATES
from benchmarks.study.tables import study_page
from benchmarks.study.task import TASKS, data_checksum
from ramengpt.cli import run_main
from ramengpt.files import write_bytes


def run_study(study: Study, options: PoolOptions) -> bool:
    """Run the study as far as the time allows, then write and print the tables.

    Returns:
        Whether all is done.

    Raises:
        UserError: the folder's runs come from other versions or had other settings.
    """
    machine = {name: value for name, value in study_machine().items() if name != "gpu"}
    about = {
        "settings": list(options.settings),
        "machine": machine,
        "data": data_checksum(),
        "trials": list(study.trials),
        "seeds": study.seeds,
    }
    record = RunRecord(options.folder / "study.json", about)
    try:
        return run_all(study.runs, record, options)
    finally:
        page = study_page(record.about, record.entries)
        write_bytes(options.folder / "study.md", page.encode())
        write_pictures(options.folder, record.about, record.entries)
        print(f"\n{page}", flush=True)


def main() -> None:
    """Run the study, or print the tables of one.

    Raises:
        SystemExit: with status 1 if there was too little time.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
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
    parser.add_argument("--processes", type=int, default=3, help="runs at a time on one GPU")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin nothing after")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--tables", type=Path, metavar="JSON", help="print its tables and stop")
    arguments = parser.parse_args()
    if arguments.tables:
        print(study_page(*read_record(arguments.tables)), end="")
        return
    study = Study(
        TASKS[arguments.model],
        tuple(arm_called(name) for name in arguments.arms),
        tuple(arguments.trials),
        arguments.seeds,
        arguments.timed,
        tuple(arguments.lengths),
        tuple(arguments.set),
    )
    options = PoolOptions(
        arguments.out,
        study.shared_settings,
        arguments.processes,
        TIMEOUT_SECONDS,
        time.monotonic() + arguments.seconds,
    )
    if not run_study(study, options):
        print("the time is over; the same command resumes", flush=True)
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main)
