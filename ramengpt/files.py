"""Whole files or none: a reader never meets one that is half-written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = ".part"


def temporary_path(path: Path) -> Path:
    """Where the content of `path` grows until it is whole: beside it, hidden, ending in .part."""
    return path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Write a file under a temporary name in its folder; give it its name once it is on disk.

    A symbolic link at `path` is replaced, its target left alone. One writer at a time: a second
    one would discard what the first has written so far.

    Args:
        path: final name; its folder is made if it is missing.

    Yields:
        The temporary file, open for binary writing and seeking.

    Raises:
        OSError: the folder cannot be written to or the disk is full. After this or any other
            error inside the block the temporary file is gone and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file whole (see :func:`atomic_writer`)."""
    with atomic_writer(path) as file:
        file.write(content)
