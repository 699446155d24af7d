"""What is recorded of a run that has ended: its results, or why it has none."""

import functools
import re
import shutil
import time
from pathlib import Path

from benchmarks.run_places import Child
from benchmarks.run_record import DIVERGED, DONE, FAILED, Entry, measured
from benchmarks.run_worker import end
from ramengpt.inference.weights_config import WEIGHTS_FILE

OUTPUT_FILE = "output.txt"
DIVERGED_LINE = re.compile(r"error: step \d+: .*; training stopped")


def result_of(child: Child, parent: Path, timeout_seconds: float) -> Entry:
    """The record of a run that has ended or timed out; its weights are deleted."""
    folder = parent / child.run.name
    entry = child.run.entry() | {
        "gpu": child.gpu,
        "card": card_name(),
        "wall_seconds": round(child.seconds, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    status = child.worker.status()
    if status is None:
        end([child.worker])
        error = f"no end after {timeout_seconds:g} seconds"
        return entry | {"status": FAILED, "error": error}
    if status != 0:
        error = error_line(folder / OUTPUT_FILE) or f"exit status {status}"
        diverged = DIVERGED_LINE.match(error)
        return entry | {"status": DIVERGED if diverged else FAILED, "error": error}
    try:
        entry |= {"status": DONE} | measured(folder / "results")
    except (OSError, ValueError) as problem:
        return entry | {"status": FAILED, "error": str(problem)}
    (folder / "models" / WEIGHTS_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return entry


def error_line(output: Path) -> str:
    """The last line that names an error, else the last one; at most 300 characters."""
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if re.match(r"error: |[\w.]+(Error|Exception)\b", line)]
    return (errors or lines or [""])[-1][:300]


@functools.cache
def card_name() -> str:
    """What the GPUs are called; empty without any."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
