"""Run the benchmarks: a table on the screen and `results/benchmarks/<time>.json`.

python -m benchmarks --only kernels --seconds 120
"""

import argparse
import importlib
import sys
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.report import Report

PARTS = {
    "kernels": True,
    "train_step": True,
    "optimizer_step": True,
    "reference_path": True,
    "index": False,
    "loader": False,
}
"""Modules of this package with `measure(report)`, and whether they need a GPU."""


def main() -> None:
    """Measure what was asked for, or all that this machine can."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help=f"parts, by commas: {','.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=900, help="begin nothing after this long")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"--only: unknown {sorted(unknown)}; there are {', '.join(PARTS)}")
    report = Report(arguments.seconds)
    for part in chosen:
        if PARTS[part] and not torch.cuda.is_available():
            print(f"{part}: skipped, it needs a GPU", flush=True)
        else:
            module = importlib.import_module(f"benchmarks.{part}")
            report.attempt(part, partial(module.measure, report))
    stamp = time.strftime("%Y%m%d-%H%M%S")
    report.write(arguments.json or Path("results/benchmarks") / f"{stamp}.json")
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
