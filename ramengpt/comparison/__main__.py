"""Compare runs on one page, results/compare.html.

Runs that differ only in the seed are one row, with its mean, a confidence interval and a test
against the first row. Nothing is checked out.

    ramengpt compare HEAD workspace
    ramengpt compare runs/adam-* runs/muon-*
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ramengpt.cli import command_parser, run_main
from ramengpt.comparison.page import write_comparison
from ramengpt.comparison.runs import is_scratch_run, read_run

FOLDER = Path("results")


def shown_names(revisions: Iterable[str], project: Path) -> dict[str, str]:
    """Show a folder by its last part, unless another run would get the same name."""
    given = list(revisions)
    shown = {
        name: Path(name).name or name if is_scratch_run(name, project) else name for name in given
    }
    taken = list(shown.values())
    return {name: short if taken.count(short) == 1 else name for name, short in shown.items()}


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    flags = command_parser("ramengpt.comparison", __doc__)
    flags.add_argument(
        "revisions",
        nargs="+",
        metavar="RUN",
        help="branch, tag, commit, DVC experiment, `workspace` or folder of a scratch run",
    )
    return flags


def main() -> None:
    """Write the page and say where it is."""
    project = Path.cwd()
    names = shown_names(parser().parse_args().revisions, project)
    runs = [replace(read_run(name, project), name=shown) for name, shown in names.items()]
    files = write_comparison(runs, FOLDER)
    print("\n".join(f"compare: {path}" for path in files))


if __name__ == "__main__":
    run_main(main)
