"""What the commands of studies share: their limits, and a page written however they end."""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.run_pool import TIMEOUT_SECONDS, PoolOptions, run_all
from benchmarks.run_record import Plan, RunRecord
from ramengpt.files import write_bytes


def study_parser(name: str, description: str | None, processes: int) -> argparse.ArgumentParser:
    """What every study takes: its folder, settings of its runs, and its limits.

    Args:
        name: of the module below `benchmarks`, and of the default folder.
        description: the module's docstring.
        processes: default of how many runs share a GPU.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("runs") / name)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--processes", type=int, default=processes, help="runs at a time on one GPU"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin nothing after")
    return parser


def pool_options(
    arguments: argparse.Namespace, settings: Sequence[str], run_arguments: Sequence[str] = ()
) -> PoolOptions:
    """How the runs of a study are carried out, from its `--out` and the limits."""
    return PoolOptions(
        arguments.out,
        tuple(settings),
        arguments.processes,
        TIMEOUT_SECONDS,
        time.monotonic() + arguments.seconds,
        arguments=tuple(run_arguments),
    )


def run_and_report(
    plan: Plan, record: RunRecord, options: PoolOptions, file: str, page: Callable[[], str]
) -> None:
    """Run as far as the time allows; write and print the page of the record, also after an error.

    Args:
        plan: as for :func:`run_all`.
        record: gains every run that ends.
        options: how, and the folder of the page.
        file: name of the page.
        page: makes it.

    Raises:
        SystemExit: with status 1 if there was too little time.
    """
    try:
        whole = run_all(plan, record, options)
    finally:
        text = page()
        write_bytes(options.folder / file, text.encode())
        print(f"\n{text}", flush=True)
    if not whole:
        print("the time is over; the same command resumes", flush=True)
        raise SystemExit(1)
