"""Hold runs against each other: `python -m pipeline.compare REV...` writes results/compare.html.

A REV is a branch, tag, commit or DVC experiment; `workspace` means the files as they are. The first
is what the others are held against. Nothing is checked out.
"""

import argparse
from pathlib import Path

from ramengpt.cli import run_main
from ramengpt.comparison.page import write_comparison
from ramengpt.comparison.runs import read_run

FOLDER = Path("results")


def main() -> None:
    """Write the page and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.compare", description=__doc__)
    parser.add_argument("revisions", nargs="+", metavar="REV")
    revisions = dict.fromkeys(parser.parse_args().revisions)
    files = write_comparison([read_run(name, Path.cwd()) for name in revisions], FOLDER)
    print("\n".join(f"compare: {path}" for path in files))


if __name__ == "__main__":
    run_main(main)
