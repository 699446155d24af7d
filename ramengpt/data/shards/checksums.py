"""SHA-256 of shards, taken once for each state of a file.

Hashing 20 GB takes a minute, so results are kept in a small file beside the shards. An entry holds
only while size, inode, modification time and change time of the file are what they were; the
change time cannot be set by a program, so a file that was replaced or rewritten is hashed again
even if its date was put back.
"""

import hashlib
import json
import threading
import time
from pathlib import Path

from ramengpt.files import open_regular, write_bytes

CACHE_NAME = ".checksums.json"
CHUNK_BYTES = 2**22
SETTLED_NANOSECONDS = 2 * 10**9  # file systems stamp in ticks: younger stamps may not be unique

Stamp = list[int]


def file_sha256(path: Path) -> str:
    """Hash a file in bounded memory (the interpreter lock is free meanwhile).

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    buffer = bytearray(CHUNK_BYTES)
    with open_regular(path) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


class Checksums:
    """Checksums of the files in one folder; safe to use from several threads.

    A cache that cannot be read counts as empty, and one that cannot be written is not kept: the
    files are hashed again.

    Args:
        folder: the store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / CACHE_NAME
        self._lock = threading.Lock()
        self._entries = self._load()
        self._changed = False

    def sha256(self, file: str) -> str:
        """Checksum of a file as it is now.

        Raises:
            OSError: the file cannot be read.
        """
        before = stamp(self._folder / file)
        known = self._entries.get(file)
        if known is not None and known[0] == before:
            return known[1]
        checksum = file_sha256(self._folder / file)
        self.record(file, before, checksum)
        return checksum

    def record(self, file: str, before: Stamp, checksum: str) -> None:
        """Keep a checksum that was taken of a file.

        Args:
            file: its name in the folder.
            before: its stamp before it was read; if it is another now, nothing is kept.
            checksum: 64 hexadecimal digits.

        Raises:
            OSError: the file is gone.
        """
        settled = time.time_ns() - max(before[2:]) > SETTLED_NANOSECONDS
        with self._lock:
            if settled and stamp(self._folder / file) == before:
                self._entries[file] = (before, checksum)
                self._changed = True

    def save(self) -> None:
        """Keep what is known for the next run; files that are gone are forgotten."""
        if not self._changed:
            return
        entries = sorted(self._entries.items())
        content = {file: entry for file, entry in entries if (self._folder / file).exists()}
        try:
            write_bytes(self._path, json.dumps(content, indent=0).encode())
        except OSError:
            return  # a read-only store

    def _load(self) -> dict[str, tuple[Stamp, str]]:
        try:
            with open_regular(self._path) as file:
                content = json.loads(file.read())
            return {
                str(file): ([int(number) for number in stamp], str(checksum))
                for file, (stamp, checksum) in content.items()
            }
        except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return {}


def stamp(path: Path) -> Stamp:
    """What changes whenever the file does: size, inode, modification and change time."""
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
