"""A GPU of its own for each run that DVC records: a lock per GPU keeps queued runs apart."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from ramengpt.progress import say

POLL_SECONDS = 1.0


@contextmanager
def shared_device() -> Iterator[torch.device]:
    """The first visible GPU, in use or not, or the CPU.

    For scratch runs: several of them started at once (by a study) are meant to share a GPU.
    """
    yield torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


@contextmanager
def own_device() -> Iterator[torch.device]:
    """Lock a GPU that no other run of this user holds, for the duration of the block.

    `CUDA_VISIBLE_DEVICES` limits the choice. If all GPUs are taken, say so and wait for one.
    Without a GPU this is the CPU, which runs share.

    Yields:
        The device; a GPU is also made the current device of this thread.
    """
    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    cards = {
        index: str(torch.cuda.get_device_properties(index).uuid)
        for index in range(torch.cuda.device_count())
    }
    with held_card(cards, lock_folder()) as index:
        torch.cuda.set_device(index)
        yield torch.device("cuda", index)


def lock_folder() -> Path:
    """Folder of the locks: one per machine and user, shared by all projects."""
    return Path(tempfile.gettempdir()) / f"ramengpt-{os.getuid()}" / "gpus"


@contextmanager
def held_card(cards: Mapping[int, str], folder: Path) -> Iterator[int]:
    """Hold the lock of the first free card.

    Args:
        cards: index among the visible GPUs -> a name that is the same in every process.
        folder: of the locks; made if missing.

    Yields:
        The card's index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    locks = {index: FileLock(folder / f"{name}.lock") for index, name in cards.items()}
    with ExitStack() as held:
        waiting = False
        while (index := _acquire_one(locks)) is None:
            if not waiting:
                count = "the GPU is" if len(cards) == 1 else f"all {len(cards)} GPUs are"
                say(f"{count} taken by other runs; waiting for one to end")
                waiting = True
            time.sleep(POLL_SECONDS)
        held.callback(locks[index].release)
        yield index


def _acquire_one(locks: Mapping[int, FileLock]) -> int | None:
    for index, lock in locks.items():
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return index
    return None
