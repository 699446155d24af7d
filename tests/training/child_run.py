"""`python -m pipeline.train` in a process of its own that can be made to die at a chosen point.

Processes are forked from a server that has imported everything, so that one costs no imports.
"""

import functools
import importlib
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple


class Death(NamedTuple):
    """A signal to the process itself before the nth call of a function of the project.

    With `cpu_seconds` a SIGPROF, which kills like SIGKILL, follows after that much more CPU time.
    """

    module: str
    name: str
    call: int
    signal: int = signal.SIGKILL
    cpu_seconds: float = 0.0


class SizeLimit(NamedTuple):
    """Files cannot grow beyond some bytes: the process is killed at it, or writing fails."""

    bytes: int
    kills: bool


def start_training(
    folder: Path, arguments: Sequence[str], fault: Death | SizeLimit | None = None
) -> ForkServerProcess:
    """Start a run.

    Args:
        folder: the project's; all that the run prints is added to its `printed.txt`.
        arguments: of the command.
        fault: what happens to it.
    """
    context = multiprocessing.get_context("forkserver")
    # PyTorch imports its compiler at the first call of an operator of ours, compiled or not.
    context.set_forkserver_preload(["ramengpt.training.run", "pipeline.train", "torch._dynamo"])
    process = context.Process(target=_main, args=(folder, list(arguments), fault))
    process.start()
    return process


def finished(process: ForkServerProcess) -> int:
    """Wait for the end; the exit status as `subprocess` gives it: negative for a signal."""
    process.join(300)
    assert process.exitcode is not None, "the run does not end"
    return process.exitcode


def printed(folder: Path) -> str:
    """What all runs of a project have printed since the last call."""
    file = folder / "printed.txt"
    text = file.read_text()
    file.write_text("")
    return text


def _main(folder: Path, arguments: list[str], fault: Death | SizeLimit | None) -> None:
    os.chdir(folder)
    output = os.open("printed.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", closefd=False) for descriptor in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["train", *arguments]
    from pipeline.train import main
    from ramengpt.cli import run_main
    from ramengpt.training import setup

    # Code that is edited while tests run must not turn theirs into another run.
    setup.stage_code = lambda *_: {"code": "the same"}
    if isinstance(fault, Death):
        _arrange(fault)
    elif fault:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if fault.kills else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.bytes, fault.bytes))
    run_main(main)


def _arrange(death: Death) -> None:
    module = importlib.import_module(f"ramengpt.training.{death.module}")
    holder, _, name = death.name.rpartition(".")
    owner = getattr(module, holder) if holder else module
    function = getattr(owner, name)
    calls = 0

    @functools.wraps(function)
    def dying(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == death.call and death.cpu_seconds:
            signal.setitimer(signal.ITIMER_PROF, death.cpu_seconds)
        elif calls == death.call:
            os.kill(os.getpid(), death.signal)
        return function(*args, **kwargs)

    setattr(owner, name, dying)
