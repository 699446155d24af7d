"""Training batches: whole-document starts, packed until a micro-batch is full.

Take documents in reading order. With long documents dropped, each contributes at most
`sequence_tokens` tokens from its start, and the last one of a micro-batch is truncated to fill
exactly T tokens; its remainder is dropped. With long documents split, every token is read: each
stretch of at most `sequence_tokens` is a piece, the remainder at a micro-batch's end is the next
one, and BOS stands in for the first token of every piece.

The target of every position is the token that follows it in the shard, so a document cut short is
never taught that the next one begins; the very last token of a shard, whose successor is unknown,
is no input. After the last document of a shard comes the next shard, after the last shard the next
epoch.

What comes next depends only on the index, the reading order and a cursor. T: tokens of a
micro-batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ramengpt.data.batches.indexed_split import IndexedShard
from ramengpt.data.batches.reading_order import ReadingOrder, ShardPieces, cut
from ramengpt.data.index.bos_index import Offsets
from ramengpt.data.shards.format import BOS_TOKEN, Fault, ShardError, Tokens

BLOCK_TOKENS = 2**15  # assembled at once, so that what it takes stays in a core's cache
CACHE_LINE_TOKENS = 32
Int32 = NDArray[np.int32]


class BatchRequest(NamedTuple):
    """A micro-batch of `num_tokens` tokens with at most `sequence_tokens` of any document."""

    num_tokens: int
    sequence_tokens: int


@dataclass(frozen=True)
class Cursor:
    """The piece that comes next.

    Attributes:
        epoch: number of passes over all shards so far.
        shard: place of the shard in the epoch's order, from 0.
        piece: place of the piece in the shard's order, from 0. Pieces are documents, unless long
            ones are split.
        piece_tokens_read: how much of that piece was read.
    """

    epoch: int
    shard: int
    piece: int
    piece_tokens_read: int

    def to_json(self) -> dict[str, int]:
        """As a checkpoint stores it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: keys are missing or unknown, or a value is no integer of 0 or more.
        """
        names = [field.name for field in fields(cls)]
        counts = [content.get(name) for name in names]
        if set(content) != set(names) or not all(type(c) is int and c >= 0 for c in counts):
            raise ValueError(f"data cursor: expected {names}, 0 or more each, found {content!r}")
        return cls(**content)


START = Cursor(epoch=0, shard=0, piece=0, piece_tokens_read=0)


def check_documents(shards: Sequence[IndexedShard]) -> None:
    """Make sure that there is something to train on.

    Raises:
        ShardError: no shard has a document with a token and a successor.
    """
    for shard in shards:
        if shard.offsets.size and shard.offsets[0] < shard.tokens.size - 1:
            return
    found = f"none in {len(shards)} shards"
    raise ShardError(Fault("train split", "documents", "one of two tokens", found, "add text"))


def epoch_tokens(shard: IndexedShard, order: ReadingOrder, sequence_tokens: int) -> int:
    """Training tokens of a shard in one epoch, ignoring truncation at the ends of batches."""
    lengths = np.diff(shard.offsets, append=shard.tokens.size - 1)
    return int((lengths if order.split else np.minimum(lengths, sequence_tokens)).sum())


class Batcher:
    """Assembles micro-batches. What it keeps between calls only saves time.

    Args:
        shards: the train split; passes :func:`check_documents`. Only the shards that a batch comes
            from are touched.
        order: how they are read.
    """

    def __init__(self, shards: Sequence[IndexedShard], order: ReadingOrder) -> None:
        self._shards = shards
        self._order = order
        self._entered: tuple[tuple[int, int], int, ShardPieces] | None = None

    def fill(self, cursor: Cursor, sequence_tokens: int, batch_3T: Int32) -> Cursor:
        """Assemble the next micro-batch.

        Args:
            cursor: the first piece that may contribute.
            sequence_tokens: most tokens of one document, or of one piece of it.
            batch_3T: C-contiguous; receives tokens, targets, and each token's offset in its piece.

        Returns:
            The cursor of the batch after this one.

        Raises:
            ValueError: the cursor points outside of the shards.
        """
        if not 0 <= cursor.shard < len(self._shards):
            found = f"found {cursor.shard}"
            raise ValueError(f"data cursor: shard: expected below {len(self._shards)}, {found}")
        filled, num_tokens = 0, batch_3T.shape[1]
        while filled < num_tokens:
            shard, pieces = self._enter(cursor)
            _check_piece(cursor, pieces)
            packing = _Packing(shard.tokens, pieces, self._order.split, cursor)
            filled += packing.fill(sequence_tokens, batch_3T[:, filled:])
            cursor = Cursor(cursor.epoch, cursor.shard, packing.piece, packing.read)
            if packing.piece == len(pieces):
                wraps = cursor.shard + 1 == len(self._shards)
                cursor = Cursor(cursor.epoch + wraps, 0 if wraps else cursor.shard + 1, 0, 0)
        return cursor

    def _enter(self, cursor: Cursor) -> tuple[IndexedShard, ShardPieces]:
        """The cursor's shard and its pieces, which are found once."""
        place = cursor.epoch, cursor.shard
        if self._entered is None or self._entered[0] != place:
            self._entered = None
            number = self._order.shard(*place, len(self._shards))
            pieces = self._order.pieces(self._shards[number], cursor.epoch, number)
            self._entered = place, number, pieces
        _, number, pieces = self._entered
        return self._shards[number], pieces


def _check_piece(cursor: Cursor, pieces: ShardPieces) -> None:
    if cursor.piece > len(pieces):
        found = f"{cursor.piece} in shard {cursor.shard}"
        raise ValueError(f"data cursor: piece: expected at most {len(pieces)}, found {found}")
    if cursor.piece_tokens_read:
        starts, ends = pieces.bounds(cursor.piece, 1)
        most = int((ends - starts).sum()) - 1
        if cursor.piece_tokens_read > most:
            expected = f"expected at most {most}, found {cursor.piece_tokens_read}"
            raise ValueError(f"data cursor: piece_tokens_read: {expected}")


class _Packing:
    """Packs the pieces of one shard from a cursor on, and says where it stopped.

    Attributes:
        piece: place of the next piece.
        read: tokens of it that were read.
    """

    def __init__(self, tokens: Tokens, pieces: ShardPieces, split: bool, cursor: Cursor) -> None:
        self._tokens = tokens
        self._pieces = pieces
        self._split = split
        self.piece = cursor.piece
        self.read = cursor.piece_tokens_read

    def fill(self, sequence_tokens: int, part_3T: Int32) -> int:
        """Fill a part of a micro-batch, or as much of it as the shard has tokens for."""
        num_tokens = part_3T.shape[1]
        filled = 0
        window = BLOCK_TOKENS // sequence_tokens + 1
        while filled < num_tokens and self.piece < len(self._pieces):
            starts, lengths = self._take(window, sequence_tokens, num_tokens - filled)
            contributed = int(lengths.sum())
            _copy(self._tokens, starts, lengths, part_3T[:, filled : filled + contributed])
            if self._split:
                part_3T[0, filled + np.cumsum(lengths) - lengths] = BOS_TOKEN
            filled += contributed
            if 2 * contributed < BLOCK_TOKENS:  # short documents
                window *= 2
        return filled

    def _take(self, count: int, sequence_tokens: int, most: int) -> tuple[Offsets, Offsets]:
        """Starts and lengths of what the next `count` pieces contribute, `most` tokens in all."""
        starts, ends = self._pieces.bounds(self.piece, count)
        starts[0] += self.read
        lengths = ends - starts if self._split else np.minimum(ends - starts, sequence_tokens)
        totals = np.cumsum(lengths)
        used = int(np.searchsorted(totals, most)) + 1
        excess = 0
        if used <= totals.size:  # the batch is full: truncate its last piece
            excess = int(totals[used - 1]) - most
            starts, lengths = starts[:used], lengths[:used]
            lengths[-1] -= excess
        if self._split and excess:
            self.read = int(lengths[-1]) + (self.read if used == 1 else 0)
            self.piece += used - 1
        else:
            self.read = 0
            self.piece += starts.size
        return cut(starts, lengths, sequence_tokens) if self._split else (starts, lengths)


def _copy(tokens: Tokens, starts: Offsets, lengths: Offsets, part_3T: Int32) -> None:
    """Copy pieces of a shard one behind the other, with what follows each token."""
    ends = np.cumsum(lengths)
    every = np.arange(part_3T.shape[1])
    plain = tokens.view(np.ndarray)
    index = np.repeat(starts - (ends - lengths), lengths)
    index += every
    # Pieces lie anywhere in memory. Touching one token of each cache line first lets the processor
    # fetch many lines at once; the copy itself would wait for one after the other.
    plain.take(starts)
    plain.take(index[::CACHE_LINE_TOKENS])
    part_3T[0] = plain.take(index)
    part_3T[1, :-1] = part_3T[0, 1:]
    some = lengths > 0
    part_3T[1, ends[some] - 1] = plain[(starts + lengths)[some]]
    np.subtract(every, np.repeat(ends - lengths, lengths), out=part_3T[2], casting="unsafe")
