"""In which order training reads a split, and what becomes of its long documents.

A shard's documents are cut into pieces that lie end to end. A shuffled epoch reads the shards in an
order drawn from (seed, epoch) and a shard's pieces in one drawn from (seed, epoch, shard). So the
order follows from the seed and the place in it, and nothing but the place needs to be stored.
"""

import mmap
from dataclasses import dataclass

import numpy as np

from ramengpt.data.batches.indexed_split import IndexedShard
from ramengpt.data.index.bos_index import Offsets
from ramengpt.data.shards.format import Tokens


@dataclass(frozen=True)
class ReadingOrder:
    """How a run reads its training split.

    Attributes:
        shuffled: whether each epoch has an order of its own, or all have the shards'.
        split: whether all of a long document is read, in pieces, or only its start.
        seed: what shuffled orders are drawn from.
        piece_tokens: longest piece, at least the longest sequence of the run.
    """

    shuffled: bool
    split: bool
    seed: int
    piece_tokens: int

    def shard(self, epoch: int, place: int, num_shards: int) -> int:
        """Number of the shard that an epoch reads at a place, from 0."""
        if not self.shuffled:
            return place
        return int(_permutation(num_shards, self.seed, epoch)[place])

    def pieces(self, shard: IndexedShard, epoch: int, number: int) -> "ShardPieces":
        """The pieces of shard `number`, as an epoch reads them."""
        starts, end = np.asarray(shard.offsets), shard.tokens.size - 1  # the last token is no input
        if self.split:
            lengths = np.diff(starts, append=end)
            starts, _ = cut(starts, lengths, self.piece_tokens)
        ends = np.append(starts[1:], end)[: starts.size]
        if self.shuffled:
            order = _permutation(starts.size, self.seed, epoch, number)
            starts, ends = starts[order], ends[order]
            _read_ahead(shard.tokens)
        return ShardPieces(starts, ends)


@dataclass(frozen=True)
class ShardPieces:
    """Where the pieces of one shard start and end, int64 [pieces] each, in reading order."""

    starts: Offsets
    ends: Offsets

    def __len__(self) -> int:
        return int(self.starts.size)

    def bounds(self, first: int, count: int) -> tuple[Offsets, Offsets]:
        """Starts (a copy) and ends of `count` pieces from a place on; fewer at the shard's end."""
        stretch = slice(first, first + count)
        return self.starts[stretch].copy(), self.ends[stretch]


def cut(starts: Offsets, lengths: Offsets, piece_tokens: int) -> tuple[Offsets, Offsets]:
    """Starts and lengths of pieces of at most `piece_tokens`; stretches of length 0 give none."""
    counts = -(-lengths // piece_tokens)
    before = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    skipped = piece_tokens * before
    left = np.repeat(lengths, counts) - skipped
    return np.repeat(starts, counts) + skipped, np.minimum(left, piece_tokens)


def _permutation(count: int, *key: int) -> Offsets:
    """A random order of `count` things that depends only on the key.

    By sorting raw random words: NumPy promises that these stay the same in later versions, and of
    its own permutations it does not.
    """
    words = np.random.PCG64(np.random.SeedSequence(key)).random_raw(count)
    return np.argsort(words, kind="stable")


def _read_ahead(tokens: Tokens) -> None:
    """Have a mapped shard read from disk in one go, since reading it out of order is slow."""
    if isinstance(tokens.base, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
        tokens.base.madvise(mmap.MADV_WILLNEED)
