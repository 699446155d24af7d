"""One of the user's files, opened as UTF-8: decompressed, decoded by its byte-order mark.

A file is what it was when it was listed: one that is cut short, or that changes, grows or vanishes
before it has been read, is an error that names it.
"""

import codecs
import io
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ramengpt.errors import UserError, shown_path
from ramengpt.files import open_regular

CHUNK_BYTES = 2**20
COMPRESSED_BYTES = 2**13  # what comes out of each is held in memory, whatever it decompresses to
ZSTD_WINDOW_BYTES = 2**31  # files made with --long

BYTE_ORDER_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

SIGNATURES = re.compile(
    rb"(?P<gzip>\x1f\x8b)|(?P<xz>\xfd7zXZ\0)|(?P<zstd>\x28\xb5\x2f\xfd)|(?P<bzip2>BZh[1-9]1AY&SY)"
    rb"|(?P<zip>PK\x03\x04)|(?P<Parquet>PAR1\x15)|(?P<PDF>%PDF-1)|(?P<RTF>\{\\rtf1)"
    rb"|(?P<a_Git_LFS_pointer>version https://git-lfs)"
)
"""What files of other kinds begin with."""
HEAD_BYTES = 24

INVALID_MARK = b"\xff"
"""Stands for what is invalid in another encoding; it is invalid in UTF-8 too, so it is counted."""


@dataclass(frozen=True)
class InputFile:
    """A file as it was when it was listed.

    Attributes:
        path: where it lies.
        bytes: its size.
        modified_ns: its modification time, in nanoseconds since 1970.
    """

    path: Path
    bytes: int
    modified_ns: int

    @classmethod
    def at(cls, path: Path) -> "InputFile":
        """Describe a file as it is now.

        Raises:
            UserError: it cannot be looked at.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from None
        return cls(path, status.st_size, status.st_mtime_ns)

    def check_unchanged(self) -> None:
        """Raise a UserError if the file is not what it was when it was listed."""
        now = InputFile.at(self.path)
        if now != self:
            what = "modified" if now.bytes == self.bytes else f"{self.bytes} -> {now.bytes} bytes"
            raise UserError(
                f"{shown_path(self.path)}: changed while it was read ({what}); run again once it "
                "is complete"
            )

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file for reading its text as UTF-8, without a byte-order mark.

        Raises:
            UserError: it cannot be read, is damaged or cut short, or changed meanwhile.
        """
        try:
            with open_regular(self.path) as file:
                chunks = _as_utf8(self.path, _decompressed(self.path, file))
                with io.BufferedReader(_Chunks(chunks), CHUNK_BYTES) as reader:
                    yield reader
        except (EOFError, lzma.LZMAError, zlib.error, _zstd_error()) as error:
            self.check_unchanged()
            raise UserError(
                f"{shown_path(self.path)}: damaged or cut short ({error}); replace it with a whole "
                "copy"
            ) from None
        except OSError as error:
            raise _unreadable(self.path, error) from None
        self.check_unchanged()


class _Decompressor(Protocol):
    """Decompresses one frame, which gzip calls a member and xz a stream."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _gzip_member() -> _Decompressor:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


def _zstd_frame() -> _Decompressor:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    ".gz": _gzip_member,
    ".xz": lzma.LZMADecompressor,
    ".zst": _zstd_frame,
}


def _unreadable(path: Path, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(
            f"{shown_path(path)}: vanished after it was listed; put it back, or run again"
        )
    reason = error.strerror or str(error)
    return UserError(
        f"{shown_path(path)}: cannot be read ({reason}); fix its permissions or its disk, or "
        "remove it"
    )


def _zstd_error() -> type[Exception]:
    import zstandard

    return zstandard.ZstdError


class _Chunks(io.RawIOBase):
    """Makes a raw stream of an iterator of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _decompressed(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """The content of an open file, by the ending of its name."""
    start = _DECOMPRESSORS.get(path.suffix.lower())
    if start is None:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
        return
    if not os.fstat(file.fileno()).st_size:
        raise EOFError("it is empty")
    # Frame after frame: the readers of Python and zstandard ignore what follows the last whole one.
    frame, first = None, True
    while block := file.read(COMPRESSED_BYTES):
        while block and (frame or first or (block := block.lstrip(b"\0"))):  # zeros may end it
            first = False
            frame = frame or start()
            yield frame.decompress(block)
            block = b""
            if frame.eof:
                block, frame = frame.unused_data, None
    if frame is not None:
        raise EOFError("the last frame has no end")


def _as_utf8(path: Path, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decode what opens with a byte-order mark; all else is UTF-8 already, or should be."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    if signature := SIGNATURES.match(head):
        kind = str(signature.lastgroup).replace("_", " ")
        advice = "run `git lfs pull`" if "LFS" in kind else "unpack, convert or rename it"
        raise UserError(f"{shown_path(path)}: it is {kind}, not text as its name says; {advice}")
    found = [(mark, name) for mark, name in BYTE_ORDER_MARKS if head.startswith(mark)]
    mark, encoding = found[0] if found else (b"", "utf-8")
    head = head[len(mark) :]
    if encoding == "utf-8":
        yield head
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)(_lone_surrogate.__name__)
    yield _encode(decoder.decode(head))
    for chunk in chunks:
        yield _encode(decoder.decode(chunk))
    decoder.errors = "strict"
    try:
        yield _encode(decoder.decode(b"", final=True))
    except UnicodeDecodeError:
        raise EOFError(f"it ends within a character of {encoding.upper()}") from None


def _lone_surrogate(error: UnicodeError) -> tuple[str, int]:
    """Stands for what no character is: a lone surrogate, or a number beyond Unicode's."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ud800", error.end


codecs.register_error(_lone_surrogate.__name__, _lone_surrogate)


def _encode(text: str) -> bytes:
    """UTF-8, lone surrogates marked as invalid."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        marks = (INVALID_MARK if "\ud800" <= sign <= "\udfff" else sign.encode() for sign in text)
        return b"".join(marks)
