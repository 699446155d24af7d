"""Validation batches: every one of the split's first tokens, exactly once, in order.

The split is one stream, its shards end to end. Documents, and the pieces of at most
`sequence_tokens` that longer ones are cut into, are packed whole into micro-batches of T tokens, so
that no token's context, and so no loss, depends on T. What is left of a micro-batch is padded with
BOS tokens, each a document of its own, which do not count.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ramengpt.data.batches.batcher import Int32
from ramengpt.data.batches.indexed_split import IndexedShard
from ramengpt.data.shards.format import BOS_TOKEN, Fault, ShardError, Tokens

CHUNK_TOKENS = 2**20


class ValidationStream:
    """The first tokens of the validation split that have a successor.

    Attributes:
        num_tokens: how many tokens count: as many as asked for, or all there are.
    """

    def __init__(self, shards: Sequence[IndexedShard], wanted_tokens: int) -> None:
        """Measure the split.

        Args:
            shards: the validation split.
            wanted_tokens: how many tokens to score, at least 1.

        Raises:
            ShardError: there are no two tokens.
        """
        self._shards = shards
        sizes = [shards[number].tokens.size for number in range(len(shards))]
        self._ends = np.cumsum(sizes)
        total_tokens = sum(sizes)
        if total_tokens < 2:
            found = str(total_tokens)
            raise ShardError(Fault("val split", "tokens", "at least 2", found, "add text"))
        self.num_tokens = min(wanted_tokens, total_tokens - 1)

    def fill(self, start: int, sequence_tokens: int, batch_3T: Int32) -> int:
        """Assemble one micro-batch.

        Args:
            start: offset of a piece in the stream, below `num_tokens`: 0, then that of what the
                batch before did not hold.
            sequence_tokens: longest piece, at most T. A document's positions start again from 0
                after this many tokens.
            batch_3T: receives tokens, targets and positions.

        Returns:
            How many tokens count, from the start of the micro-batch on.

        Raises:
            ValueError: T is less than a piece.
        """
        if batch_3T.shape[1] < sequence_tokens:
            found = f"{batch_3T.shape[1]} tokens for pieces of {sequence_tokens}"
            raise ValueError(f"validation batch: expected room for one piece, found {found}")
        available = min(batch_3T.shape[1] + 1, self.num_tokens - start)
        tokens = self._read(start, available + 1)
        every = np.arange(available, dtype=np.int32)
        opens = np.where(tokens[:-1] == BOS_TOKEN, every, 0)
        positions = (every - np.maximum.accumulate(opens)) % sequence_tokens
        valid = available
        if available > batch_3T.shape[1]:  # the last piece may be longer: leave it to the next one
            valid = int(np.flatnonzero(positions == 0)[-1])
        batch_3T[:2, valid:] = BOS_TOKEN
        batch_3T[2, valid:] = 0
        batch_3T[0, :valid] = tokens[:valid]
        batch_3T[1, :valid] = tokens[1 : valid + 1]
        batch_3T[2, :valid] = positions[:valid]
        return valid

    def text_bytes(self, byte_lengths: NDArray[np.int64]) -> int:
        """Bytes of text that the tokens which count stand for.

        Args:
            byte_lengths: of every token of the vocabulary.
        """
        chunks = (
            self._read(start, min(CHUNK_TOKENS, self.num_tokens + 1 - start))
            for start in range(1, self.num_tokens + 1, CHUNK_TOKENS)
        )
        return sum(int(byte_lengths[tokens].sum()) for tokens in chunks)

    def _read(self, start: int, count: int) -> Tokens:
        """Tokens `start` to `start + count` of the stream, across shards."""
        parts = []
        while count:
            number = int(np.searchsorted(self._ends, start, side="right"))
            tokens = self._shards[number].tokens.view(np.ndarray)
            part = tokens[tokens.size - (int(self._ends[number]) - start) :][:count]
            parts.append(part)
            start, count = start + part.size, count - part.size
        return np.concatenate(parts)
