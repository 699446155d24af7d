"""Which run begins next, and on which GPU."""

import os
import time
from dataclasses import dataclass

from benchmarks.run_record import Run
from benchmarks.run_worker import Worker


@dataclass(frozen=True)
class Child:
    """A run in a worker."""

    run: Run
    worker: Worker
    started: float

    @property
    def gpu(self) -> str:
        """The worker's."""
        return self.worker.gpu

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started


def places(
    due: list[Run], running: list[Child], gpus: list[str], processes_each: int
) -> list[tuple[Run, str]]:
    """Which runs can start now, and where: on the GPU with the fewest.

    Runs that need a GPU to themselves wait until all others have ended: a process that compiles
    slows down one on another GPU too.
    """
    loads = {gpu: [child.run for child in running if child.gpu == gpu] for gpu in gpus}
    shared = [run for run in due if not run.alone]
    among_themselves = not shared and all(child.run.alone for child in running)
    most = 1 if among_themselves else processes_each
    found = []
    for run in due if among_themselves else shared:
        free = [
            gpu
            for gpu, load in loads.items()
            if len(load) < most and not any(each.alone for each in load)
        ]
        if free:
            gpu = min(free, key=lambda gpu: len(loads[gpu]))
            loads[gpu].append(run)
            found.append((run, gpu))
    return found


def visible_gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES, one per GPU; one empty name without a GPU."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(number) for number in range(count)]
    return names[:count] or [""]
