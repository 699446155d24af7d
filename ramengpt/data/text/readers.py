"""Files of text as batches of records: .txt and .jsonl, plain or compressed (see also `parquet`).

A record is a line of a .jsonl file, a row of a .parquet file, or a document of a .txt file, or a
part of one. Reading only decompresses and cuts; the processes that tokenise parse and decode.
Memory is bounded: a batch holds about a megabyte, and .txt files are read in parts.
"""

import re
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO, Literal, Protocol

from ramengpt.data.text.cuts import last_cut_in_bytes
from ramengpt.data.text.input_file import InputFile
from ramengpt.errors import UserError, shown_path

BATCH_BYTES = 2**20
BATCH_RECORDS = 4096
PART_BYTES = 2**21
LINE_BYTES = 2**26  # longest line of .jsonl, and longest text without a place to cut
ANYWHERE = "<|endoftext|>"  # the one separator that need not stand on a line of its own


@dataclass(frozen=True)
class RecordBatch:
    """Consecutive records of one source.

    Attributes:
        records: UTF-8 text, or a line of JSON, each; None for a null.
        form: whether a record is `text` or a line of `jsonl`.
        field: key of the text in a line of JSON.
        place: the source's name, for messages.
        first: number of the first record in its source.
        continues: the first record continues the document of the record before it.
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
        return sum(map(len, filter(None, self.records)))


class Source(Protocol):
    """Something that holds documents in a fixed order."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def batches(self, first_record: int) -> Iterator[RecordBatch]:
        """Read from a record on, to the end."""


@dataclass(frozen=True)
class TextSource(ABC):
    """A file of the user's with documents."""

    file: InputFile

    @property
    def name(self) -> str:
        """The file's path."""
        return shown_path(self.file.path)

    @abstractmethod
    def batches(self, first_record: int) -> Iterator[RecordBatch]:
        """Read from a record on, to the end."""


def grouped(
    chunks: Iterator[list[bytes | None]], first: int
) -> Iterator[tuple[int, list[bytes | None]]]:
    """Gather records until they make a batch.

    Args:
        chunks: the records, as many at once as was convenient.
        first: number of the first record.

    Yields:
        Number of a batch's first record, and its records.
    """
    batch: list[bytes | None] = []
    room_bytes = BATCH_BYTES
    for chunk in chunks:
        start = 0
        while start < len(chunk):
            upto = start + BATCH_RECORDS - len(batch)
            ends = list(accumulate([len(record or b"") for record in chunk[start:upto]]))
            count = min(bisect_left(ends, room_bytes) + 1, len(ends))
            batch += chunk[start : start + count]
            room_bytes -= ends[count - 1]
            start += count
            if room_bytes <= 0 or len(batch) == BATCH_RECORDS:
                yield first, batch
                first, batch, room_bytes = first + len(batch), [], BATCH_BYTES
    if batch:
        yield first, batch


@dataclass(frozen=True)
class JsonLinesFile(TextSource):
    """A .jsonl file: a JSON object in each line, with the text under `field`."""

    field: str

    def batches(self, first_record: int) -> Iterator[RecordBatch]:
        """Lines as they are; UserError for a broken file or an endless line."""
        with self.file.opened() as stream:
            for first, records in grouped(self._lines(stream, first_record), first_record):
                yield RecordBatch(records, "jsonl", self.field, self.name, first)

    def _lines(self, stream: BinaryIO, first_record: int) -> Iterator[list[bytes | None]]:
        number = 0
        while line := stream.readline(LINE_BYTES + 1):
            if len(line) > LINE_BYTES:
                raise UserError(
                    f"{self.name}, line {number + 1}: expected at most {LINE_BYTES} bytes; put "
                    "such a document into a .txt file of its own, which is read in parts"
                )
            if number >= first_record:
                yield [line]
            number += 1


@dataclass(frozen=True)
class TextFile(TextSource):
    """A .txt file: one document, or several with a separator between them.

    Attributes:
        separator: a line that ends a document if it holds nothing else; `<|endoftext|>` does so
            anywhere, with the end of its line. Empty: the file is one document.
    """

    separator: str

    def batches(self, first_record: int) -> Iterator[RecordBatch]:
        """Documents, long ones in parts that end where no token is changed."""
        with self.file.opened() as stream:
            number, continues = 0, False
            for records, cut in self._parts(stream):
                skip = max(0, first_record - number)
                if skip < len(records):
                    joins = continues and not skip
                    kept = list(records[skip:])
                    yield RecordBatch(kept, "text", "", self.name, number + skip, joins)
                number += len(records)
                continues = cut

    def _parts(self, stream: BinaryIO) -> Iterator[tuple[list[bytes | None], bool]]:
        """Records, and whether the next ones continue the last of them."""
        rest, continues, ended = b"", False, False
        while not ended:
            block = stream.read(PART_BYTES)
            ended = len(block) < PART_BYTES
            self._refuse_binary(block)
            *records, rest = self._documents(rest + block, continues, ended)
            continues = continues and not records
            if ended:
                if rest or continues or not records:
                    records.append(rest)
            elif len(rest) >= PART_BYTES:
                cut = self._cut(rest)
                if cut:
                    records.append(rest[:cut])
                    rest, continues = rest[cut:], True
            if records:
                yield list(records), continues

    def _documents(self, block: bytes, continues: bool, ended: bool) -> list[bytes]:
        """Split at the separators that lie whole within the block; the last item is open.

        Blanks between two separators are no document.
        """
        if not self.separator:
            return [block]
        separator, lines = re.escape(self.separator.encode()), self.separator != ANYWHERE
        pattern = (
            rb"(?m:^)" + separator + rb"(?:\r?\n|\r?\Z)" if lines else separator + rb"(?:\r?\n)?"
        )
        documents, start = [], 0
        for match in re.finditer(pattern, block):
            inside_a_line = match.start() == 0 and continues and lines
            newline_may_follow = block[match.start() :].rstrip(b"\r") == self.separator.encode()
            if inside_a_line or (newline_may_follow and not ended):
                continue
            documents.append(block[start : match.start()])
            start = match.end()
        documents.append(block[start:])
        whole = range(int(continues), len(documents) - (not ended))
        return [
            b"" if number in whole and not document.strip() else document
            for number, document in enumerate(documents)
        ]

    def _cut(self, rest: bytes) -> int | None:
        """Where to end a part: never within what may become a separator."""
        reserved = len(self.separator.encode()) + 2 if self.separator else 0
        end = max(0, len(rest) - reserved)
        searched = max(0, end - 2 * PART_BYTES)  # there is none before, or it had been taken
        cut = last_cut_in_bytes(rest[searched:end])
        if cut is not None:
            return searched + cut
        if len(rest) > LINE_BYTES:
            raise UserError(
                f"{self.name}: {LINE_BYTES} bytes without the end of a word, so this is no text; "
                "remove the file"
            )
        return None

    def _refuse_binary(self, block: bytes) -> None:
        if b"\0" in block:
            raise UserError(
                f"{self.name}: holds NUL bytes, so it is binary, or UTF-16 without a byte-order "
                "mark; save it as UTF-8 or remove it"
            )
