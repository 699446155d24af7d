"""Another process that holds something, until it is killed or this one ends."""

import subprocess
import sys


def hold_elsewhere(module: str, call: str) -> tuple[subprocess.Popen[str], str]:
    """Enter a context manager of `ramengpt.training.session` in a new process.

    Args:
        module: where it is.
        call: how it is made, as Python code.

    Returns:
        The process, once it is inside, and what the context manager gave, as text.
    """
    code = (
        f"from pathlib import Path\nfrom ramengpt.training.session.{module} import *\n"
        f"with {call} as held:\n    print(held, flush=True)\n    input()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()
