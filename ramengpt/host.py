"""The machine around the GPU: how memory is kept, and where a user's caches lie."""

import ctypes
import os
import platform
import tempfile
from contextlib import suppress
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let glibc keep the memory of freed tensors for the next ones.

    By default it returns blocks of 32 MiB and more to the system on every free, and smaller ones at
    the end of the heap. The next temporary tensor then costs a page fault per 4 KiB, which takes
    longer than the arithmetic on it. Other C libraries are left alone.

    Returns:
        Whether it is glibc and accepted the settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def user_cache_folder() -> Path:
    """`ramengpt` in the user's cache folder, or in the temporary one where that is not writable.

    XDG says to ignore relative paths. On clusters and in containers HOME is often missing or
    read-only.
    """
    parents = [Path(os.environ.get("XDG_CACHE_HOME", ""))]
    with suppress(RuntimeError):  # a user without a home
        parents.append(Path.home() / ".cache")
    for parent in parents:
        if parent.is_absolute() and _can_be_made(parent):
            return parent / "ramengpt"
    return Path(tempfile.gettempdir()) / f"ramengpt-{os.getuid()}"


def _can_be_made(folder: Path) -> bool:
    """Whether a folder can be written to, or be made where it is missing."""
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    except OSError:
        return False
