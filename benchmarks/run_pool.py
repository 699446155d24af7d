"""Run many scratch runs in parallel, several on each GPU; finished runs are not repeated.

Each run is what `python -m pipeline.train --out FOLDER/NAME` does and sees one GPU; runs of an arm
follow each other in one process (:mod:`benchmarks.run_worker`), which compiles for all of them. A
run's output goes to FOLDER/NAME/output.txt and its results to FOLDER/NAME/results; weights are
deleted except for their config, since a hundred runs would fill a disk. A run that is timed has a
GPU and a process to itself. A run that fails or times out is tried once more, then recorded as
failed without affecting the others, and retried by the next call; that training diverged is a
result.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.run_places import Child, places, visible_gpus
from benchmarks.run_record import DONE, FAILED, Entry, Plan, Run, RunRecord
from benchmarks.run_result import OUTPUT_FILE, result_of
from benchmarks.run_worker import Worker, end
from ramengpt.errors import UserError
from ramengpt.progress import scaled
from ramengpt.training.session.interruption import InterruptedRunError, StopRequest, stop_on_signals

POLL_SECONDS = 0.05
TIMEOUT_SECONDS = 420.0
"""Of one run in a study."""


@dataclass(frozen=True)
class PoolOptions:
    """How runs are carried out.

    Attributes:
        folder: parent of the runs' folders.
        settings: `key=value` each, for all runs.
        processes_each: concurrent runs per shared GPU, or in total where there is no GPU.
        timeout_seconds: of one run.
        deadline: no run starts after this time of `time.monotonic`.
        arguments: of `pipeline.train`, for all runs, beside their settings.

    Raises:
        UserError: no process could run.
    """

    folder: Path
    settings: tuple[str, ...]
    processes_each: int
    timeout_seconds: float
    deadline: float
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.processes_each < 1:
            raise UserError(f"--processes: expected at least 1, found {self.processes_each}")


def run_all(plan: Plan, record: RunRecord, options: PoolOptions) -> bool:
    """Run everything that is planned and not in the record yet.

    Args:
        plan: called again whenever a run has ended, so that results can lead to more runs.
        record: gains every run that ends.
        options: how.

    Returns:
        Whether everything planned has been run; False if the deadline passed first.

    Raises:
        InterruptedRunError: Ctrl-C or SIGTERM came; running processes are stopped, not recorded.
    """
    record.forget_what_failed(plan)
    gpus = visible_gpus()
    most = len(gpus) * options.processes_each
    running: list[Child] = []
    idle: list[Worker] = []
    failed: set[str] = set()
    with stop_on_signals() as stop, all_ended(running, idle):
        due = _due(plan, record, running)
        if due:
            where = f"{len(gpus)} GPUs" if gpus[0] else "the CPU"
            print(f"{len(due)} runs, {most} at a time, on {where}", flush=True)
        while True:
            if time.monotonic() < options.deadline:
                known = {arm for worker in idle for arm in worker.arms}
                due.sort(key=lambda run: run.arm not in known)
                for run, gpu in places(due, running, gpus, options.processes_each):
                    running.append(start(run, _worker(run, gpu, idle, most), options))
            if not running:
                return not due
            for child in _wait_for_an_end(running, options.timeout_seconds, stop):
                entry = result_of(child, options.folder, options.timeout_seconds)
                if entry["status"] != FAILED or child.run.name in failed:
                    record.add(entry)
                failed |= {child.run.name} if entry["status"] == FAILED else set()
                running.remove(child)
                if child.worker.status() == 0 and not child.run.alone:
                    idle.append(child.worker)
                else:
                    end([child.worker])
                due = _due(plan, record, running)
                _tell(entry, len(running), len(due))


def _due(plan: Plan, record: RunRecord, running: list[Child]) -> list[Run]:
    going = {child.run.name for child in running}
    return [
        run
        for run in plan(record.entries)
        if run.name not in record.entries and run.name not in going
    ]


def _wait_for_an_end(
    running: list[Child], timeout_seconds: float, stop: StopRequest
) -> list[Child]:
    """Runs that have ended or timed out."""
    while True:
        if stop:
            raise InterruptedRunError(
                f"stopped, with {len(running)} runs unfinished; the same command resumes",
                stop.exit_status,
            )
        ended = [
            child
            for child in running
            if child.worker.status() is not None or child.seconds > timeout_seconds
        ]
        if ended:
            return ended
        time.sleep(POLL_SECONDS)


def worker_command() -> list[str]:
    """Starts a worker."""
    return [sys.executable, "-m", "benchmarks.run_worker"]


def _worker(run: Run, gpu: str, idle: list[Worker], most: int) -> Worker:
    """A worker on a GPU for a run: one that knows its arm, any, or a new one.

    What is timed has a new one, and no idle one keeps the GPU's memory.
    """
    here = [worker for worker in idle if worker.gpu == gpu]
    if run.alone:
        end(here)
        idle[:] = [worker for worker in idle if worker not in here]
    elif here:
        chosen = next((worker for worker in here if run.arm in worker.arms), here[0])
        idle.remove(chosen)
        return chosen
    threads = str(max(1, (os.cpu_count() or 1) // most))  # its share of the cores
    shares = {"OMP_NUM_THREADS": threads, "TORCHINDUCTOR_COMPILE_THREADS": threads}
    return Worker(worker_command(), gpu, shares | dict(os.environ))


def arguments_of(run: Run, options: PoolOptions) -> list[str]:
    """Of `pipeline.train`, for a run."""
    arguments = ["--out", str(options.folder / run.name), "--seed", str(run.seed)]
    settings = (*options.settings, *run.settings)
    return [*arguments, *options.arguments, *(f"--set={setting}" for setting in settings)]


def start(run: Run, worker: Worker, options: PoolOptions) -> Child:
    """Let a worker train a run."""
    folder = options.folder / run.name
    folder.mkdir(parents=True, exist_ok=True)
    worker.begin(run.arm, arguments_of(run, options), folder / OUTPUT_FILE)
    return Child(run, worker, time.monotonic())


@contextmanager
def all_ended(running: list[Child], idle: list[Worker]) -> Iterator[None]:
    """Stop all processes, however the block ends."""
    try:
        yield
    finally:
        end([*(child.worker for child in running), *idle])


def _tell(entry: Entry, going: int, due: int) -> None:
    if entry["status"] == DONE:
        speed = scaled(entry["tokens_per_second"], "tokens/s")
        result = f"{entry['validation_loss']:.4f}, {speed}"
    else:
        result = f"{entry['status']}: {entry['error']}"
    left = f"{going} running, {due} waiting"
    print(f"{entry['name']}: {result}, {entry['wall_seconds']:.0f} s ({left})", flush=True)
