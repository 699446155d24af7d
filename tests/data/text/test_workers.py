"""Workers of the download stage: they ignore Ctrl-C and do not outlive their parent."""

import os
import signal
import subprocess
import sys

import psutil

from ramengpt.data.text.workers import worker_pool
from tests.conftest import ROOT


def interrupted_pid() -> int:
    """Runs in a worker: send it Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)
    return os.getpid()


def kill_this_process_with_a_worker() -> None:
    """Name a worker on standard output, then die without cleaning up."""
    pool = worker_pool(1)
    os.write(1, str(pool.submit(os.getpid).result()).encode())
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_leaves_ctrl_c_to_its_parent() -> None:
    with worker_pool(1) as pool:
        first, again = (pool.submit(interrupted_pid).result() for _ in range(2))
    assert first == again != os.getpid()


def test_a_worker_ends_when_its_parent_is_killed() -> None:
    program = "from tests.data.text.test_workers import *; kill_this_process_with_a_worker()"
    parent = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, check=False, timeout=120
    )
    assert parent.returncode == -signal.SIGKILL
    worker = int(parent.stdout)
    if psutil.pid_exists(worker):
        psutil.Process(worker).wait(timeout=60)
