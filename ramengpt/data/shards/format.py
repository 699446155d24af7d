"""The shard format: 256 little-endian int32 of header, then one uint16 for each GPT-2 token.

Header: magic 20240520, version 1, number of tokens, the rest zero. Token 50256 opens every
document.
The files are named `<name>_<split>_<number>.bin`, number in six digits.

Source: the format of the kjj0/fineweb10B-gpt2 files, which come from Andrej Karpathy's llm.c
(dev/data/data_common.py).
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from ramengpt.errors import UserError, shortened
from ramengpt.files import atomic_writer, open_regular

MAGIC = 20240520
VERSION = 1
HEADER_INTS = 256
HEADER_BYTES = 4 * HEADER_INTS
TOKEN_BYTES = 2
BOS_TOKEN = 50256
VOCABULARY_SIZE = 50257
MAX_TOKENS = 2**31 - 1
MOST_CHARACTERS = 500  # of each part of a message

Split = Literal["val", "train"]
Tokens = NDArray[np.uint16]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one file.

    Attributes:
        file: its name (or path) as the user finds it.
        where: the field, or the offset in bytes.
        expected: what the format or the manifest asks for.
        found: what is there.
        advice: what the user can do; empty for the advice that fits a shard.
    """

    file: str
    where: str
    expected: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        """One line for the user."""
        command = "python -m pipeline.download"
        advice = self.advice or (
            f"run `{command} --redownload {Path(self.file).name}`, "
            f"or delete the file and run `{command}`"
        )
        parts = (self.file, self.where, self.expected, self.found, advice)
        file, where, expected, found, advice = (shortened(part, MOST_CHARACTERS) for part in parts)
        return f"{file}: {where}: expected {expected}, found {found}; {advice}"


class ShardError(UserError):
    """Shards, a manifest or an index that cannot be used; one line for each fault."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


@dataclass(frozen=True)
class ShardHeader:
    """What the first 1024 bytes of a shard say."""

    magic: int
    version: int
    num_tokens: int

    @property
    def file_bytes(self) -> int:
        """Size of a whole shard with this header."""
        return HEADER_BYTES + TOKEN_BYTES * self.num_tokens

    def to_bytes(self) -> bytes:
        """The header as it lies in the file, 1024 bytes."""
        header = np.zeros(HEADER_INTS, dtype="<i4")
        header[:3] = self.magic, self.version, self.num_tokens
        return header.tobytes()


def shard_filename(name: str, split: Split, number: int) -> str:
    """Name a shard, e.g. `fineweb_train_000001.bin`.

    Raises:
        ValueError: the name holds a path separator, the split is unknown, or the number is negative
            or has more than six digits.
    """
    if not name or Path(name).name != name:
        raise ValueError(f"shard name: expected a plain file name, found {name!r}")
    if split not in get_args(Split):
        raise ValueError(f"shard split: expected one of {get_args(Split)}, found {split!r}")
    if not 0 <= number <= 999_999:
        raise ValueError(f"shard number: expected 0 to 999999, found {number}")
    return f"{name}_{split}_{number:06d}.bin"


def inspect_shard(path: Path) -> tuple[ShardHeader | None, list[Fault]]:
    """Check a shard's header and size, whatever is wrong with it.

    Returns:
        The header (None if it is not one of version 1) and the faults, none if all is well.
        What the operating system refuses (no file, no permission, a dangling or circular link) and
        what is no file (a folder, a pipe) is a fault too, never an exception.
    """
    try:
        with open_regular(path) as file:
            raw = file.read(HEADER_BYTES)
            file_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        return None, [Fault(str(path), "file", "a readable shard", _refusal(path, error))]
    if len(raw) < HEADER_BYTES:
        found = f"{len(raw)} bytes, end of file"
        return None, [Fault(str(path), "header", f"{HEADER_BYTES} bytes", found)]
    faults = _header_faults(path, np.frombuffer(raw, dtype="<i4"))
    if faults:
        return None, faults
    magic, version, num_tokens = (int(value) for value in np.frombuffer(raw, dtype="<i4")[:3])
    header = ShardHeader(magic, version, num_tokens)
    if file_bytes != header.file_bytes:
        expected = f"{header.file_bytes} bytes for {num_tokens} tokens"
        how = "truncated" if file_bytes < header.file_bytes else "grown"
        faults.append(Fault(str(path), "file size", expected, f"{file_bytes} bytes ({how})"))
    return header, faults


def _refusal(path: Path, error: OSError) -> str:
    if path.is_symlink():
        return f"a symbolic link to {path.readlink()}: {error.strerror}"
    return str(error.strerror)


def _header_faults(path: Path, header: NDArray[np.int32]) -> list[Fault]:
    """Compare the header's 256 integers with the format; later fields only if the magic fits."""
    magic, version, num_tokens = (int(value) for value in header[:3])
    if magic != MAGIC:
        swapped = int(header[:1].byteswap()[0]) == MAGIC
        found = f"{magic}" + (" (the header is big-endian)" if swapped else "")
        return [Fault(str(path), "header field magic (byte 0)", str(MAGIC), found)]
    faults = []
    if version != VERSION:
        field = "header field version (byte 4)"
        faults.append(Fault(str(path), field, str(VERSION), str(version)))
    if num_tokens < 1:
        field = "header field number of tokens (byte 8)"
        faults.append(Fault(str(path), field, "at least 1", str(num_tokens)))
    reserved = np.flatnonzero(header[3:])
    if reserved.size:
        position = 3 + int(reserved[0])
        field = f"header integer {position} (byte {4 * position})"
        faults.append(Fault(str(path), field, "0", str(int(header[position]))))
    return faults


def read_header(path: Path) -> ShardHeader:
    """Read a shard's header and compare the file's size with it.

    Raises:
        ShardError: every fault of header and size, each with file, field, expected and found.
    """
    header, faults = inspect_shard(path)
    if faults or header is None:
        raise ShardError(*faults)
    return header


def open_shard(path: Path) -> Tokens:
    """Map a shard's tokens into memory, read-only, after the checks of :func:`read_header`.

    Returns:
        uint16 [number of tokens]; pages come from disk as they are touched.

    Raises:
        ShardError: as :func:`read_header`.
    """
    header = read_header(path)
    return np.memmap(path, "<u2", mode="r", offset=HEADER_BYTES, shape=(header.num_tokens,))


class ShardWriter:
    """Stream tokens into a shard that gets its name only when it is whole.

    Use as a context manager: leaving the block writes the header's number of tokens, flushes to
    disk and renames; leaving it by an exception discards what was written.

    Attributes:
        path: the shard's final name.
        num_tokens: tokens written so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_tokens = 0
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self._file = self._exit.enter_context(atomic_writer(self.path))
        self._file.write(bytes(HEADER_BYTES))
        return self

    def write(self, tokens: Tokens) -> None:
        """Append tokens.

        Args:
            tokens: uint16 [any number], each below 50257.

        Raises:
            ValueError: another type or shape, a token out of range, or more than 2^31 - 1 tokens.
        """
        if tokens.dtype != np.uint16 or tokens.ndim != 1:
            found = f"{tokens.dtype} {list(tokens.shape)}"
            raise ValueError(f"{self.path}: tokens: expected uint16 [n], found {found}")
        if tokens.size and int(tokens.max()) >= VOCABULARY_SIZE:
            found = str(int(tokens.max()))
            raise ValueError(f"{self.path}: token: expected below {VOCABULARY_SIZE}, found {found}")
        if self.num_tokens + tokens.size > MAX_TOKENS:
            raise ValueError(f"{self.path}: number of tokens: expected at most {MAX_TOKENS}")
        self._file.write(np.ascontiguousarray(tokens, dtype="<u2").data)
        self.num_tokens += tokens.size

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._exit.__exit__(kind, error, traceback)
            return
        with self._exit:
            if self.num_tokens == 0:
                raise ValueError(f"{self.path}: number of tokens: expected at least 1, found 0")
            self._file.seek(0)
            self._file.write(ShardHeader(MAGIC, VERSION, self.num_tokens).to_bytes())
