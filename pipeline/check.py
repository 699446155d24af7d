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

from ramengpt.cli import run_main
from ramengpt.config import load_config
from ramengpt.files import write_bytes
from ramengpt.source_code import stage_code

STAGES = ("download", "verify", "index", "train", "sample")
CODE_FOLDER = Path("data/code")


def main() -> None:
    """Run the stage."""
    argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0]).parse_args()
    rule = load_config().optimizer.rule
    for stage in STAGES:
        content = json.dumps(stage_code(stage, rule, Path.cwd()), indent=1) + "\n"
        write_bytes(CODE_FOLDER / f"{stage}.json", content.encode())


if __name__ == "__main__":
    run_main(main, output_is_optional=True)
