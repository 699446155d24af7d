"""Files are written whole or not at all, and only regular files are read."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = ".part"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_FILES = (errno.EMFILE, errno.ENFILE)
ADVICE = {
    **dict.fromkeys(NO_ROOM, "make room there"),
    errno.EROFS: "its disk is read-only; make it writable or work in another folder",
    errno.EACCES: "fix its permissions",
    errno.EPERM: "fix its permissions",
    errno.EIO: "check the disk",
    errno.ENOENT: "it was removed while the command ran, or its folder is missing; put it back",
    errno.ENOTDIR: "something that is no folder is in its way; move that away",
    errno.EEXIST: "something that is no folder is in its way; move that away",
    errno.EISDIR: "a folder is in its way; move that away",
    errno.ENAMETOOLONG: "use shorter names",
    **dict.fromkeys(NO_FILES, "raise `ulimit -n`"),
    errno.ESTALE: "its network disk has lost it; mount the disk again",
    errno.ELOOP: "its links lead in a circle; replace them by files",
}
"""What to do about the system's errors, whichever file they are about."""


def temporary_path(path: Path) -> Path:
    """The temporary name of `path` while it is written: beside it, hidden, ending in .part."""
    return path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Write a file under a temporary name in its folder; rename it once it is on disk.

    A symbolic link at `path` is replaced, its target left alone. One writer at a time: a second
    one would discard what the first has written so far.

    Args:
        path: final name; its folder is created if missing.

    Yields:
        The temporary file, open for binary writing and seeking.

    Raises:
        OSError: the folder cannot be written to or the disk is full; it names the file. After this
            or any other error inside the block the temporary file is gone and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None  # write() does not know of what
        with suppress(OSError):  # the disk that refused the one may refuse the other
            temporary.unlink(missing_ok=True)
        raise


def flush_folder(path: Path) -> None:
    """Bring the names in a folder to the disk, after a rename in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file atomically (see :func:`atomic_writer`)."""
    with atomic_writer(path) as file:
        file.write(content)


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading; never blocks, as opening a named pipe would.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe, a socket or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "Not a regular file", str(path))
