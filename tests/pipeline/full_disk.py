"""Run every stage on a disk that is full, or refuses, and report how each ended.

    python -m tests.pipeline.full_disk FOLDER WAY

FOLDER holds a small project. Before a stage is run as it should be, it is run in copies of the
project under faults of the WAY; each prints a line of JSON. Stages run in forked processes, so that
torch is imported once.

    limit      no file can grow beyond some bytes (RLIMIT_FSIZE): works everywhere
    refused    the n-th file or folder that the stage creates or renames is refused with ENOSPC
    tmpfs      the copy lies on a tmpfs with a few free kilobytes, or no free inode
    read_only  the copy lies on a tmpfs that is mounted read-only
"""

import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401 - what stages import late is imported once, for all of them
import pyarrow.parquet  # noqa: F401
import safetensors.torch  # noqa: F401

import pipeline.check
import pipeline.download
import pipeline.index
import pipeline.sample
import pipeline.train
import pipeline.verify
import ramengpt.comparison.__main__
from ramengpt.cli import run_main
from ramengpt.data.sources import build
from ramengpt.data.text.token_stream import encode_batch, read_batches
from ramengpt.data.text.tokenizer import gpt2_encoding

STAGES: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "check": (pipeline.check.main, ()),
    "download": (pipeline.download.main, ()),
    "verify": (pipeline.verify.main, ()),
    "index": (pipeline.index.main, ()),
    "train": (pipeline.train.main, ()),
    "sample": (pipeline.sample.main, ()),
    "compare": (ramengpt.comparison.__main__.main, ("scratch", "scratch")),
}
LIMITS_BYTES = (0,)
FREE_KILOBYTES = (4,)
ALLOWED = (0, 4)
CREATIONS = ("os.mkdir", "os.rename", "os.symlink", "os.link")


def limited(most_bytes: int) -> None:
    """Let no file of this process grow beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


def refusing(folder: Path, allowed: int) -> None:
    """Refuse all that creates or renames something in a folder after the first few times."""
    left = allowed

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        creates = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if not creates and event not in CREATIONS:
            return
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else ""
        if Path(path).absolute().is_relative_to(folder):
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    sys.addaudithook(hook)


def ended(stage: str, folder: Path, prepare: Callable[[], None]) -> tuple[int, str]:
    """Run a stage in a process of its own: its exit status, and what it said on standard error."""
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        with os.fdopen(reader) as said:
            status, errors = json.load(said)
        os.waitpid(process, 0)
        return status, errors
    os.chdir(folder)
    main, arguments = STAGES[stage]
    sys.argv = [stage, *arguments]
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    errors, status = sys.stderr, 0
    try:
        prepare()
        run_main(main, output_is_optional=True)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException as error:
        status = 70
        errors.write(f"Traceback: {error!r}")
    os.write(writer, json.dumps([status, errors.getvalue()]).encode())
    os._exit(0)


@contextmanager
def copy_of(project: Path, on_tmpfs: str = "") -> Iterator[Path]:
    """A copy of the project; on a tmpfs of its own if options for its mount are given."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        copy.mkdir()
        if on_tmpfs:
            command = ["mount", "-t", "tmpfs", "-o", on_tmpfs, "tmpfs", str(copy)]
            subprocess.run(command, check=True)
        try:
            shutil.copytree(project, copy, dirs_exist_ok=True)
            yield copy
        finally:
            if on_tmpfs:
                subprocess.run(["umount", str(copy)], check=True)


def faults(project: Path, way: str) -> Iterator[tuple[str, Path, Callable[[], None]]]:
    """Each fault of a way: its name, the folder to run in, and what to do there first."""
    match way:
        case "limit":
            for most in LIMITS_BYTES:
                with copy_of(project) as copy:
                    yield f"files of {most} bytes", copy, lambda most=most: limited(most)
        case "refused":
            for allowed in ALLOWED:
                with copy_of(project) as copy:
                    start = lambda copy=copy, allowed=allowed: refusing(copy, allowed)  # noqa: E731
                    yield f"{allowed} creations", copy, start
        case "tmpfs":
            for kilobytes in FREE_KILOBYTES:
                with copy_of(project, "size=64m") as copy:
                    with (copy / "filler").open("wb") as filler:
                        os.posix_fallocate(filler.fileno(), 0, free_bytes(copy) - 1024 * kilobytes)
                    yield f"{kilobytes} KB are free", copy, lambda: None
            with copy_of(project, "size=64m,nr_inodes=2000") as copy:
                for number in range(2000):
                    try:
                        (copy / f"filler{number}").touch()
                    except OSError:
                        break
                yield "no inode is free", copy, lambda: None
        case "read_only":
            with copy_of(project, "size=64m") as copy:
                subprocess.run(["mount", "-o", "remount,ro", str(copy)], check=True)
                yield "read-only", copy, lambda: None


def free_bytes(folder: Path) -> int:
    """What may still be written to the disk of a folder."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def main() -> None:
    """Print a line for each stage under each fault."""
    project, *ways = Path(sys.argv[1]), *sys.argv[2:]
    build.token_batches = lambda sources, start, processes: (  # type: ignore[assignment]
        encode_batch(number, batch) for number, batch in read_batches(sources, start)
    )
    gpt2_encoding()
    for stage in STAGES:
        for way in ways:
            for name, folder, prepare in faults(project, way):
                status, errors = ended(stage, folder, prepare)
                errors = errors.replace(str(folder), "PROJECT")
                print(json.dumps([stage, way, name, status, errors]), flush=True)
        status, errors = ended(stage, project, lambda: None)
        assert status == 0, errors
        if stage == "train":
            for name in ("models", "results"):
                source = "results/train" if name == "results" else name
                shutil.copytree(project / source, project / "scratch" / name)


if __name__ == "__main__":
    main()
