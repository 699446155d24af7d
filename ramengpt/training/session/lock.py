"""One process per run: a lock that names its holder; the kernel releases it if the process dies."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ramengpt.errors import UserError
from ramengpt.files import write_bytes
from ramengpt.progress import say


@contextmanager
def run_lock(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold a run's folder for this process.

    Args:
        folder: of the run's checkpoints, or of its outputs; made if missing.
        wait: if another process holds the lock, say so and wait for it.

    Raises:
        UserError: another process, which is named, holds the lock, and `wait` is false.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "run.lock")
    holder_file = folder / "run.lock.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        running = f"{folder}: a run is already going here, in {_holder(holder_file)}"
        if not wait:
            raise UserError(f"{running}; wait for it or stop it") from None
        say(f"{running}; waiting for it to end")
        lock.acquire()
    holder = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    try:
        write_bytes(holder_file, (json.dumps(holder) + "\n").encode())
        yield
    finally:
        holder_file.unlink(missing_ok=True)
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a run holds the folder's lock now."""
    lock = FileLock(folder / "run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _holder(file: Path) -> str:
    try:
        holder = json.loads(file.read_text())
        return f"process {holder['process']} on {holder['host']} since {holder['started']}"
    except (OSError, ValueError, KeyError):
        # The other process has the lock but has not written its name yet.
        return "a process that has just started"
