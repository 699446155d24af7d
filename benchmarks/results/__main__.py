"""Run the study behind docs/results.md: five optimizers, and an ablation of the network.

    python -m pipeline.download
    python -m pipeline.verify
    python -m pipeline.index
    python -m benchmarks.results --out runs/results --processes 3

The first three lines prepare the text (with `dataset: text` in params.yaml). Stages: `sweep`
searches each optimizer's learning rates until the best is bracketed by worse ones; `seeds` trains
each at its best with two more seeds, once with a GPU to itself, so that times can be compared;
`small` is a larger network, and `parts` changes one thing at a time about the best baseline. At the
end, results.json, results.md and curves.tar.xz in the folder are up to date. The same command
resumes a stopped study; failed runs are retried.

`--tables docs/results/results.json` only prints the tables of such a record.
"""

import argparse
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import machine
from benchmarks.results.curves import write_curves
from benchmarks.results.study import SETTINGS, STAGES, study_runs, sweep_is_missing
from benchmarks.results.tables import results_page
from benchmarks.run_pool import PoolOptions, run_all
from benchmarks.run_record import RunRecord, read_record
from ramengpt.cli import run_main
from ramengpt.errors import UserError
from ramengpt.files import write_bytes

TIMEOUT_SECONDS = 420.0
"""Of one run."""


def run_study(
    stages: list[str], settings: tuple[str, ...], folder: Path, processes: int, deadline: float
) -> bool:
    """Run stages until done or out of time, then print and write the tables.

    Returns:
        Whether all is done.

    Raises:
        UserError: the folder's runs come from another machine or had other settings, or the stages
            need results of a sweep that is not complete.
    """
    about = {"settings": list(settings), "machine": study_machine()}
    record = RunRecord(folder / "results.json", about)
    if sweep_is_missing(stages, record.entries):
        raise UserError(f"--stages {','.join(stages)}: the sweep is not whole yet; add sweep")
    plan = partial(study_runs, stages)
    options = PoolOptions(folder, settings, processes, TIMEOUT_SECONDS, deadline)
    try:
        return run_all(plan, record, options)
    finally:
        page = results_page(record.about, record.entries)
        write_bytes(folder / "results.md", page.encode())
        write_curves(folder, record.entries)
        print(f"\n{page}", flush=True)


def study_machine() -> dict[str, Any]:
    """Names and versions that losses and seconds depend on."""
    return {name: value for name, value in machine().items() if name != "cpu_cores"}


def stages_of(text: str) -> list[str]:
    """Parse --stages.

    Raises:
        UserError: one is unknown.
    """
    stages = text.split(",")
    unknown = [name for name in stages if name not in STAGES]
    if unknown:
        raise UserError(f"--stages: unknown {unknown}; there are {', '.join(STAGES)}")
    return stages


def main() -> None:
    """Run the study, or print the tables of one.

    Raises:
        SystemExit: with status 1 if there was too little time.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("runs/results"))
    parser.add_argument("--processes", type=int, default=3, help="runs at a time on one GPU")
    parser.add_argument("--stages", default=",".join(STAGES), help="by commas")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin nothing after")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--tables", type=Path, metavar="JSON", help="print its tables and stop")
    arguments = parser.parse_args()
    if arguments.tables:
        print(results_page(*read_record(arguments.tables)), end="")
        return
    stages, deadline = stages_of(arguments.stages), time.monotonic() + arguments.seconds
    settings = (*SETTINGS, *arguments.set)
    if not run_study(stages, settings, arguments.out, arguments.processes, deadline):
        print("out of time; the same command resumes from here", flush=True)
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main)
