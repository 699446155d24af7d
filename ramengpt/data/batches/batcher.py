"""Training batches: whole-document starts, packed until a micro-batch is full.

Take documents in index order. Each contributes at most `sequence_tokens` tokens from its start; the
last one of a micro-batch is cut so that exactly T are filled, and is done with that. The target of
every position is the token that follows it in the shard, so a document cut short is never taught
that the next one begins; the very last token of a shard, whose successor is unknown, is no input.
After the last document of a shard comes the next shard, after the last shard the first again, one
epoch later.

What comes next depends on the index and a cursor alone. T: tokens of a micro-batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ramengpt.data.index.bos_index import Offsets
from ramengpt.data.shards.format import Fault, ShardError, Tokens

BLOCK_TOKENS = 2**15  # assembled at once, so that what it takes stays in a core's cache
Int32 = NDArray[np.int32]


class IndexedShard(NamedTuple):
    """A shard's tokens, uint16 [n], and where its documents start, int64 [documents]."""

    tokens: Tokens
    offsets: Offsets


class BatchRequest(NamedTuple):
    """A micro-batch of `num_tokens` tokens with at most `sequence_tokens` of any document."""

    num_tokens: int
    sequence_tokens: int


@dataclass(frozen=True)
class Cursor:
    """The document that comes next.

    Attributes:
        epoch: how often all shards were gone through.
        shard: number of the shard in the split, from 0.
        document: number of the document in the shard, from 0.
    """

    epoch: int
    shard: int
    document: int

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


START = Cursor(epoch=0, shard=0, document=0)


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


def epoch_tokens(shards: Sequence[IndexedShard], sequence_tokens: int) -> int:
    """Tokens that all documents contribute, but for those at which batches happen to end."""
    return sum(
        int(_contributions(shard, 0, shard.offsets.size, sequence_tokens)[1].sum())
        for shard in shards
    )


def fill_batch(
    shards: Sequence[IndexedShard], cursor: Cursor, sequence_tokens: int, batch_3T: Int32
) -> Cursor:
    """Assemble the next micro-batch.

    Args:
        shards: the train split; passes :func:`check_documents`. Only the shards that the batch
            comes from are touched.
        cursor: the first document that may contribute.
        sequence_tokens: most tokens of one document.
        batch_3T: C-contiguous; receives tokens, targets, and each token's offset in its document.

    Returns:
        The cursor of the batch after this one.

    Raises:
        ValueError: the cursor points outside of the shards.
    """
    _check_cursor(shards, cursor)
    filled, num_tokens = 0, batch_3T.shape[1]
    while filled < num_tokens:
        shard = shards[cursor.shard]
        part_3T = batch_3T[:, filled:]
        documents, contributed = _fill_from_shard(shard, cursor.document, sequence_tokens, part_3T)
        filled += contributed
        cursor = replace(cursor, document=cursor.document + documents)
        if cursor.document == shard.offsets.size:
            wraps = cursor.shard + 1 == len(shards)
            cursor = Cursor(cursor.epoch + wraps, 0 if wraps else cursor.shard + 1, 0)
    return cursor


def _check_cursor(shards: Sequence[IndexedShard], cursor: Cursor) -> None:
    if not 0 <= cursor.shard < len(shards):
        raise ValueError(f"data cursor: shard: expected below {len(shards)}, found {cursor.shard}")
    documents = shards[cursor.shard].offsets.size
    if not 0 <= cursor.document <= documents:
        found = f"{cursor.document} in shard {cursor.shard}"
        raise ValueError(f"data cursor: document: expected at most {documents}, found {found}")


def _fill_from_shard(
    shard: IndexedShard, first: int, sequence_tokens: int, part_3T: Int32
) -> tuple[int, int]:
    """Pack documents of one shard from number `first` on; returns how many documents and tokens."""
    num_tokens = part_3T.shape[1]
    filled = done = 0
    window = BLOCK_TOKENS // sequence_tokens + 1
    while filled < num_tokens and first + done < shard.offsets.size:
        starts, lengths = _contributions(shard, first + done, window, sequence_tokens)
        ends = np.cumsum(lengths)
        used = int(np.searchsorted(ends, num_tokens - filled)) + 1
        if used <= ends.size:  # this window fills the batch: cut its last document
            starts, lengths, ends = starts[:used], lengths[:used], ends[:used]
            lengths[-1] -= ends[-1] - (num_tokens - filled)
        contributed = int(lengths.sum())
        _copy(shard.tokens, starts, lengths, part_3T[:, filled : filled + contributed])
        filled += contributed
        done += starts.size
        if 2 * contributed < BLOCK_TOKENS:  # short documents
            window *= 2
    return done, filled


def _contributions(
    shard: IndexedShard, first: int, count: int, sequence_tokens: int
) -> tuple[Offsets, Offsets]:
    """Starts and lengths of what `count` documents contribute (fewer at the shard's end)."""
    starts = np.asarray(shard.offsets[first : first + count + 1])
    if starts.size <= count:
        starts = np.append(starts, shard.tokens.size - 1)  # the last token is no input
    return starts[:-1], np.minimum(np.diff(starts), sequence_tokens)


def _copy(tokens: Tokens, starts: Offsets, lengths: Offsets, part_3T: Int32) -> None:
    """Copy pieces of a shard one behind the other, with what follows each token."""
    ends = np.cumsum(lengths)
    every = np.arange(part_3T.shape[1])
    source = every + np.repeat(starts - (ends - lengths), lengths)
    plain = tokens.view(np.ndarray)
    part_3T[0] = plain[source]
    part_3T[1] = plain[source + 1]
    np.subtract(every, np.repeat(ends - lengths, lengths), out=part_3T[2], casting="unsafe")
