"""Stage check: refuse a params.yaml that cannot run, and write down each stage's code.

    python -m pipeline.check

It reruns at every edit of params.yaml or of the code and takes a second. The other stages depend
on data/code/<stage>.json instead of on the code itself, so that what does not decide their outputs
reruns nothing, and they start only where params.yaml is right: DVC deletes the outputs of a stage
before it starts it.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ramengpt.cli import run_main
from ramengpt.config import load_config
from ramengpt.files import write_bytes
from ramengpt.source_code import stage_code
from ramengpt.training.session.inputs import CHECKED_BLOCKS, optimizer_blocks

STAGES = ("download", "verify", "index", "train", "sample")
CODE_FOLDER = Path("data/code")
TEXT_FOLDER_FILE = Path("data/text/.gitkeep")
TEXT_FOLDER_NOTE = b"Put your own text into this folder.\n"


def parser() -> argparse.ArgumentParser:
    """What the command line may say: nothing but --help."""
    return argparse.ArgumentParser(prog="python -m pipeline.check", description=__doc__)


def main() -> None:
    """Run the stage."""
    parser().parse_args()
    # First, whatever params.yaml says: DVC has deleted it, and git tracks it.
    write_bytes(TEXT_FOLDER_FILE, TEXT_FOLDER_NOTE)
    optimizer = load_config().optimizer
    for stage in STAGES:
        _write(CODE_FOLDER / f"{stage}.json", stage_code(stage, optimizer.rule, Path.cwd()))
    _write(CHECKED_BLOCKS, optimizer_blocks(optimizer.model_dump(mode="json")))


def _write(file: Path, content: dict[str, Any]) -> None:
    write_bytes(file, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    run_main(main, output_is_optional=True)
