"""Refuse a params.yaml that cannot run, and record each stage's code.

It reruns at every edit of params.yaml or of the code, and takes a second. The other stages depend
on data/code/<stage>.json instead of on the code itself, so that an edit that cannot change their
outputs reruns nothing. They start only once params.yaml is valid, because DVC deletes a stage's
outputs before it starts it. Numbers in results/train that come from other inputs are withdrawn
here, before a stage that takes hours, so that they never stand beside parameters that are not
theirs.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ramengpt.cli import command_parser, run_main
from ramengpt.config import Config, load_config
from ramengpt.files import write_bytes
from ramengpt.source_code import stage_code
from ramengpt.training.run_data import data_files
from ramengpt.training.session.folders import stage_folders
from ramengpt.training.session.inputs import CHECKED_BLOCKS, optimizer_blocks, run_inputs
from ramengpt.training.session.lock import is_locked
from ramengpt.training.session.outputs import announce_run, shown_run, withdraw_outputs
from ramengpt.training.session.settings import RunOptions

STAGES = ("download", "verify", "index", "train", "sample")
CODE_FOLDER = Path("data/code")
TEXT_FOLDER_FILE = Path("data/text/.gitkeep")
TEXT_FOLDER_NOTE = b"Put your own text into this folder.\n"


def parser() -> argparse.ArgumentParser:
    """What the command line may say: nothing but --help."""
    return command_parser("pipeline.check", __doc__)


def main() -> None:
    """Run the stage."""
    parser().parse_args()
    # First, whatever params.yaml says: DVC has deleted it, and git tracks it.
    write_bytes(TEXT_FOLDER_FILE, TEXT_FOLDER_NOTE)
    config = load_config()
    code = {stage: stage_code(stage, config.optimizer.rule, Path.cwd()) for stage in STAGES}
    for stage in STAGES:
        _write(CODE_FOLDER / f"{stage}.json", code[stage])
    _write(CHECKED_BLOCKS, optimizer_blocks(config.optimizer.model_dump(mode="json")))
    withdraw_other_runs(config, code["train"])


def withdraw_other_runs(config: Config, code: dict[str, str]) -> None:
    """Put a run without numbers in place of one that the inputs as they are now do not lead to."""
    folders = stage_folders()
    shown = shown_run(folders.results)
    if shown is None or is_locked(folders.lock):
        return
    data = [file for file in data_files() if file.exists()]
    if shown != run_inputs(config, RunOptions(None, None), code, data).name():
        withdraw_outputs(folders)
        announce_run(folders.results)


def _write(file: Path, content: dict[str, Any]) -> None:
    write_bytes(file, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    run_main(main, output_is_optional=True)
