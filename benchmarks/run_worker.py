"""A process that trains one run after another, and imports and compiles for all of them once.

Runs of one arm differ in seeds and rates, for which nothing is compiled again. Losses are those of
a process for each run. A run that fails ends its worker, since a GPU's error outlives the run.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

MOST_COMPILED_VERSIONS = 256
"""Of one function in a process; more end in an error. Arms of a study add up."""
GRACE_SECONDS = 15.0
"""For a run that was asked to stop to save a checkpoint, from which it resumes next time."""


class Worker:
    """A worker process, from the outside.

    Args:
        command: starts it.
        gpu: the only one that it sees; empty without a GPU.
        environment: of the process.
    """

    def __init__(self, command: Sequence[str], gpu: str, environment: Mapping[str, str]) -> None:
        self.gpu = gpu
        self.arms: set[str] = set()
        self._status: int | None = None
        self.process = subprocess.Popen(
            command,
            env={**environment, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the pool, which passes it on
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    def begin(self, arm: str, arguments: Sequence[str], output: Path) -> None:
        """Let it train a run of an arm, whose output goes to a file."""
        self.arms.add(arm)
        self._status = None
        task = json.dumps({"arguments": list(arguments), "output": str(output.absolute())})
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(task.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.process.wait()  # it has died, which `status` says

    def status(self) -> int | None:
        """Exit status of the run; None until it has ended."""
        if self._status is None:
            assert self.process.stdout is not None
            answer = self.process.stdout.read()
            self._status = int(answer) if answer else self.process.poll()
        return self._status


def end(workers: Iterable[Worker]) -> None:
    """Ask workers to stop; kill them and what they started if they take too long."""
    processes = [worker.process for worker in workers]
    for process in processes:
        process.terminate()
    patience = time.monotonic() + GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, patience - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def serve(train: Callable[[list[str]], None]) -> None:
    """Train what the lines of standard input say, and answer each with its exit status.

    Args:
        train: a run, from the arguments of its command line; its own way to fail is SystemExit.
    """
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        task = json.loads(line)
        status = _status_of(train, task["arguments"], Path(task["output"]))
        print(status, file=answers, flush=True)
        if status:
            return


def _status_of(train: Callable[[list[str]], None], arguments: list[str], output: Path) -> int:
    """Run with standard output and standard error, also those of libraries, in a file."""
    streams, kept = (sys.stdout, sys.stderr), [os.dup(1), os.dup(2)]
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        try:
            train(arguments)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        return status
    finally:
        sys.stdout, sys.stderr = streams
        for descriptor, before in zip((1, 2), kept, strict=True):
            os.dup2(before, descriptor)
            os.close(before)
        os.close(file)


def train_as_command(arguments: list[str]) -> None:
    """What `python -m pipeline.train` does, and the memory that it used given back."""
    import torch

    from pipeline.train import main
    from ramengpt.cli import run_main

    torch._dynamo.config.recompile_limit = MOST_COMPILED_VERSIONS
    torch._dynamo.config.accumulated_recompile_limit = MOST_COMPILED_VERSIONS
    sys.argv = ["python -m pipeline.train", *arguments]
    run_main(main, output_is_optional=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    serve(train_as_command)
