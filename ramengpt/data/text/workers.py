"""Processes that work for the download stage and never outlive it."""

import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """Start processes that import afresh, leave Ctrl-C to their parent, and end when it is gone.

    Args:
        processes: how many.
    """
    return ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_follow_parent
    )


def _follow_parent() -> None:
    """Runs in the worker. A parent that was killed cannot tell its workers to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def leave() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
