"""Text files as batches of records: .txt, .jsonl (plain or compressed) and .parquet.

A record is a line of a .jsonl file, a row of a .parquet file, or a part of a .txt file, which is
one document however long. Reading only cuts and decompresses; the processes that tokenise parse
and decode. Memory is bounded: a batch holds about a megabyte, and .txt files are read in parts.
"""

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, Protocol, cast

from ramengpt.errors import UserError

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

BATCH_BYTES = 2**20
BATCH_RECORDS = 4096
PART_BYTES = 2**21
LINE_BYTES = 2**26


@dataclass(frozen=True)
class RecordBatch:
    """Consecutive records of one source.

    Attributes:
        records: UTF-8 text, or a line of JSON, each; None for a null.
        form: whether a record is `text` or a line of `jsonl`.
        field: key of the text in a line of JSON.
        place: the source's name, for messages.
        first: number of the first record in its source.
        continues: the first record goes on with the document of the one before it.
    """

    records: list[bytes | None]
    form: Literal["text", "jsonl"]
    field: str
    place: str
    first: int
    continues: bool = False

    @property
    def bytes(self) -> int:
        """Size of the records."""
        return sum(len(record) for record in self.records if record)


class Source(Protocol):
    """Something that holds documents in a fixed order."""

    def batches(self, first_record: int) -> Iterator[RecordBatch]:
        """Read from a record on, to the end."""


def grouped(
    records: Iterator[bytes | None], first: int
) -> Iterator[tuple[int, list[bytes | None]]]:
    """Gather records until they make a batch.

    Yields:
        Number of the first record, and the records.
    """
    batch: list[bytes | None] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record) if record else 0
        if size >= BATCH_BYTES or len(batch) >= BATCH_RECORDS:
            yield first, batch
            first, batch, size = first + len(batch), [], 0
    if batch:
        yield first, batch


@dataclass(frozen=True)
class TextFile:
    """A .txt file: one document, in parts that end between two words where there are any."""

    path: Path
    field: str

    def batches(self, first_record: int) -> Iterator[RecordBatch]:
        """One part in each batch."""
        rest, number = b"", 0
        with self.path.open("rb") as file:
            while True:
                block = rest + file.read(PART_BYTES - len(rest))
                end = last_safe_cut(block) if len(block) == PART_BYTES else len(block)
                part, rest = block[:end], block[end:]
                if number >= first_record and (part or not number):
                    place = str(self.path)
                    yield RecordBatch([part], "text", self.field, place, number, number > 0)
                if not rest and len(block) < PART_BYTES:
                    return
                number += 1


def last_safe_cut(block: bytes) -> int:
    """Where a block of UTF-8 can be cut without a change to any token, if possible.

    Returns:
        Offset of the last space or newline between two ASCII characters that are no blanks; if
        there is none, of the last character.
    """
    cut = len(block) - 1
    while (cut := max(block.rfind(b" ", 1, cut), block.rfind(b"\n", 1, cut))) > 0:
        if 0x20 < block[cut - 1] < 0x7F and 0x20 < block[cut + 1] < 0x7F:
            return cut
    end = len(block) - 1
    while end > len(block) - 4 and block[end] & 0xC0 == 0x80:
        end -= 1
    return end


@dataclass(frozen=True)
class JsonLinesFile:
    """A .jsonl file: a JSON object in each line, with the text under `field`."""

    path: Path
    field: str

    def batches(self, first_record: int) -> Iterator[RecordBatch]:
        """Lines as they are; UserError for a broken archive or an endless line."""
        try:
            with _open_lines(self.path) as file:
                lines = self._lines(file, first_record)
                for first, records in grouped(lines, first_record):
                    yield RecordBatch(records, "jsonl", self.field, str(self.path), first)
        except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, _zstd_error()) as error:
            raise UserError(
                f"{self.path}: damaged or cut short ({error}); make the file again"
            ) from None

    def _lines(self, file: IO[bytes], first_record: int) -> Iterator[bytes | None]:
        number = 0
        while line := file.readline(LINE_BYTES + 1):
            if len(line) > LINE_BYTES:
                raise UserError(
                    f"{self.path}, line {number + 1}: expected at most {LINE_BYTES} bytes; put "
                    "such a document into a .txt file of its own, which is read in parts"
                )
            if number >= first_record:
                yield line
            number += 1


def _zstd_error() -> type[Exception]:
    import zstandard

    return zstandard.ZstdError


def _open_lines(path: Path) -> IO[bytes]:
    """Open a file for reading lines, decompressed."""
    match path.suffix:
        case ".gz":
            return cast(IO[bytes], gzip.open(path, "rb"))
        case ".xz":
            return lzma.open(path, "rb")
        case ".zst":
            import zstandard

            reader = zstandard.ZstdDecompressor().stream_reader(
                path.open("rb"), read_across_frames=True
            )
            return io.BufferedReader(cast(io.RawIOBase, reader), BATCH_BYTES)
        case _:
            return path.open("rb")


@dataclass(frozen=True)
class ParquetFile:
    """A .parquet file with a column of texts."""

    path: Path
    field: str

    def batches(self, first_record: int) -> Iterator[RecordBatch]:
        """Rows as UTF-8; UserError if the column is missing or no text, or the file is damaged."""
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile as Reader

        try:
            with Reader(self.path, buffer_size=2**20, pre_buffer=False) as reader:
                yield from self._batches(reader, first_record)
        except pa.ArrowException as error:
            raise UserError(f"{self.path}: not a whole .parquet file ({error})") from None

    def _batches(self, reader: "pyarrow.parquet.ParquetFile", first: int) -> Iterator[RecordBatch]:
        columns = reader.schema_arrow.names
        if self.field not in columns:
            raise UserError(
                f"{self.path}: no column {self.field!r}; set text_field to one of "
                f"{', '.join(columns)}"
            )
        groups = [reader.metadata.row_group(number) for number in range(reader.num_row_groups)]
        start = 0
        while start < len(groups) and first >= groups[start].num_rows:
            first -= groups[start].num_rows
            start += 1
        number = sum(group.num_rows for group in groups[:start])
        size = sum(group.total_byte_size for group in groups) // max(1, reader.metadata.num_rows)
        for table in reader.iter_batches(
            batch_size=max(1, min(BATCH_RECORDS, BATCH_BYTES // max(1, size))),
            row_groups=range(start, len(groups)),
            columns=[self.field],
        ):
            records = text_column(table.column(0), str(self.path))
            if first < len(records):
                batch = records[first:]
                yield RecordBatch(batch, "text", self.field, str(self.path), number + first)
            number += len(records)
            first = max(0, first - len(records))


def text_column(column: "pyarrow.Array", place: str) -> list[bytes | None]:
    """Take a column of strings as bytes, since pyarrow cannot decode invalid UTF-8.

    Raises:
        UserError: it is no column of strings.
    """
    import pyarrow as pa

    kinds = pa.types
    if not (kinds.is_string(column.type) or kinds.is_large_string(column.type)):
        raise UserError(f"{place}: expected a column of strings, found {column.type}")
    return column.cast(pa.large_binary()).to_pylist()
