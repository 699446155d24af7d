"""Records to tokens in several processes, in the order of the records whatever their number.

One process reads batches and hands them out; results are taken in the same order. At most eight
batches a process, and 256 MB of text, are on their way, which bounds memory.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ramengpt.data.shards.format import BOS_TOKEN, Tokens
from ramengpt.data.shards.provenance import Position
from ramengpt.data.text.json_line import text_in_json
from ramengpt.data.text.readers import RecordBatch, Source
from ramengpt.data.text.tokenizer import (
    PIECE_CHARACTERS,
    encode_documents,
    encode_text,
    without_surrogates,
)
from ramengpt.data.text.workers import worker_pool
from ramengpt.errors import UserError

COUNTS = ("documents", "empty", "null", "invalid_utf8", "long")
DOCUMENT, EMPTY, NULL, INVALID, LONG = (1 << bit for bit in range(len(COUNTS)))
BATCHES_AHEAD = 8
BYTES_AHEAD = 2**28


@dataclass(frozen=True)
class TokenBatch:
    """What became of a RecordBatch of R records.

    Attributes:
        source: number of the source.
        first: number of the first record.
        tokens: uint16 [n], all records' one after the other, token 50256 before each document.
        lengths: int64 [R], tokens of each record; 0 for one that is left out.
        flags: uint8 [R], bit i set if the record counts under COUNTS[i]; a later part of a
            document counts only if its UTF-8 is invalid.
    """

    source: int
    first: int
    tokens: Tokens
    lengths: NDArray[np.int64]
    flags: NDArray[np.uint8]


def encode_batch(source: int, batch: RecordBatch) -> TokenBatch:
    """Parse, decode and tokenise a batch.

    Raises:
        UserError: a line is no JSON object with a text; the line says which.
    """
    ordinary = [record for record in batch.records if record and len(record) <= PIECE_CHARACTERS]
    if batch.form == "text" and not batch.continues and len(ordinary) == len(batch.records):
        with suppress(UnicodeDecodeError):
            tokens = encode_documents(ordinary)
            flags = np.full(len(ordinary), DOCUMENT, dtype=np.uint8)
            return TokenBatch(source, batch.first, tokens, _lengths(tokens), flags)
    found = [text_of(batch, index, record) for index, record in enumerate(batch.records)]
    flags = np.array([flag for _, flag in found], dtype=np.uint8)
    lengths = np.zeros(len(found), dtype=np.int64)
    rest = np.zeros(0, dtype=np.uint16)
    if batch.continues and found:
        flags[0] &= INVALID
        rest = encode_text(found[0][0])
        lengths[0] = rest.size
    documents = np.array([number for number, (text, _) in enumerate(found) if text], dtype=np.int64)
    documents = documents[documents >= batch.continues]
    tokens = encode_documents([found[number][0].encode() for number in documents])
    lengths[documents] = _lengths(tokens)
    return TokenBatch(source, batch.first, np.concatenate([rest, tokens]), lengths, flags)


def _lengths(tokens: Tokens) -> NDArray[np.int64]:
    """Tokens of each document, token 50256 included."""
    return np.diff(np.flatnonzero(tokens == BOS_TOKEN), append=tokens.size)


def text_of(batch: RecordBatch, index: int, record: bytes | None) -> tuple[str, int]:
    """The record's text, and how it counts."""
    if record is None:
        return "", NULL
    text, flag = _decode(record)
    if batch.form == "jsonl":
        if not text.strip():
            return "", EMPTY
        value = text_in_json(text, batch.field, f"{batch.place}, line {batch.first + index + 1}")
        if value is None:
            return "", NULL
        text = without_surrogates(value)
        flag |= INVALID if text is not value else 0
    if not text:
        return "", EMPTY
    return text, flag | DOCUMENT | (LONG if len(text) > PIECE_CHARACTERS else 0)


def _decode(record: bytes) -> tuple[str, int]:
    try:
        return record.decode(), 0
    except UnicodeDecodeError:
        return record.decode("utf-8", "replace"), INVALID


def token_batches(sources: list[Source], start: Position, processes: int) -> Iterator[TokenBatch]:
    """Tokenise from a position to the end of the last source, in order.

    Args:
        sources: in the order of the result.
        start: source and record to begin with; its token is the reader's business.
        processes: how many tokenise, beside the one that reads.

    Raises:
        UserError: a source is damaged, or a process died.
    """
    with worker_pool(processes) as pool:
        ahead: deque[tuple[Future[TokenBatch], int]] = deque()
        waiting_bytes = 0
        try:
            for number, batch in read_batches(sources, start):
                size = batch.bytes
                ahead.append((pool.submit(encode_batch, number, batch), size))
                waiting_bytes += size
                while len(ahead) > BATCHES_AHEAD * processes or waiting_bytes > BYTES_AHEAD:
                    future, size = ahead.popleft()
                    waiting_bytes -= size
                    yield future.result()
            while ahead:
                yield ahead.popleft()[0].result()
        except BrokenProcessPool:
            raise UserError(
                "a tokenising process died, most likely for want of memory; lower "
                "download.processes; finished shards are kept"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def read_batches(sources: list[Source], start: Position) -> Iterator[tuple[int, RecordBatch]]:
    """Read all records from a position on, with the number of their source."""
    for number in range(start[0], len(sources)):
        for batch in sources[number].batches(start[1] if number == start[0] else 0):
            yield number, batch


class TokenStream:
    """Tokens in order, cut where the caller likes, with the position in the source.

    A record counts where its first token is read, a record without tokens with the next one, so
    counts and positions do not depend on how records fell into batches.

    Args:
        batches: from the record of `start` on.
        start: where to begin, in the middle of a record if its token is not 0.
        on_invalid: called with the number of a source in which something was no valid text.

    Attributes:
        position: where to resume after what was read.
        counts: what was met so far, by the names of COUNTS; the caller may clear it.
    """

    def __init__(
        self,
        batches: Iterator[TokenBatch],
        start: Position,
        on_invalid: Callable[[int], object] = lambda number: None,
    ) -> None:
        self._batches = batches
        self.position = start
        self.counts = dict.fromkeys(COUNTS, 0)
        self._on_invalid = on_invalid
        self._batch: TokenBatch | None = None
        self._offset = 0
        self._counted = 0
        self._skip = start[2]

    def read(self, limit: int) -> Tokens:
        """Take the next tokens, at most `limit`.

        Returns:
            uint16 [1 to limit], or [0] at the end.
        """
        while self._batch is None or self._offset == len(self._batch.tokens):
            if self._batch is not None:
                self._count(len(self._batch.flags))
            self._batch = next(self._batches, None)
            if self._batch is None:
                return np.zeros(0, dtype=np.uint16)
            self._offset, self._counted = self._skip, int(self._skip > 0)
            self._skip = 0
        tokens = self._batch.tokens[self._offset : self._offset + limit]
        self._offset += len(tokens)
        ends = np.cumsum(self._batch.lengths)
        record = int(np.searchsorted(ends, self._offset))
        self._count(record + 1)
        number = self._batch.first + record
        if ends[record] == self._offset:
            self.position = (self._batch.source, number + 1, 0)
        else:
            done = self._offset - int(ends[record] - self._batch.lengths[record])
            self.position = (self._batch.source, number, done)
        return tokens

    def _count(self, upto: int) -> None:
        assert self._batch is not None
        flags = self._batch.flags[self._counted : upto]
        for bit, name in enumerate(COUNTS):
            self.counts[name] += int(np.count_nonzero(flags & (1 << bit)))
        if np.any(flags & INVALID):
            self._on_invalid(self._batch.source)
        self._counted = max(self._counted, upto)

    def close(self) -> None:
        """End the processes behind the stream."""
        close: Callable[[], None] | None = getattr(self._batches, "close", None)
        if close is not None:
            close()
