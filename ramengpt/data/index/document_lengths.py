"""How long documents are: exact quantiles and a histogram, whatever the number of documents."""

import numpy as np
from numpy.typing import NDArray

from ramengpt.data.index.bos_index import Offsets

CHUNK_DOCUMENTS = 2**20
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
BINS_PER_DOUBLING = 2


class DocumentLengths:
    """Lengths in tokens, BOS included, of the documents of one split.

    A document that continues in the next shard counts once, in full; tokens before the first BOS
    of the split belong to none. Memory grows with the number of different lengths only.
    """

    def __init__(self) -> None:
        self._lengths: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._counts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._open_tokens = 0  # of the document that the last shard ended in
        self._is_open = False

    def add_shard(self, offsets: Offsets, num_tokens: int) -> None:
        """Count the documents of the next shard.

        Args:
            offsets: int64 [documents], where they start.
            num_tokens: length of the shard.
        """
        previous = -self._open_tokens
        for start in range(0, offsets.size, CHUNK_DOCUMENTS):
            chunk = np.asarray(offsets[start : start + CHUNK_DOCUMENTS])
            lengths = np.diff(chunk, prepend=previous)
            self._count(lengths if self._is_open else lengths[1:])
            self._is_open = True
            previous = int(chunk[-1])
        if self._is_open:
            self._open_tokens = num_tokens - previous

    def finish(self) -> None:
        """Count the last document, which ends with the last shard."""
        if self._is_open:
            self._count(np.array([self._open_tokens]))
        self._is_open, self._open_tokens = False, 0

    def _count(self, lengths: NDArray[np.int64]) -> None:
        new_lengths, new_counts = np.unique(lengths, return_counts=True)
        merged = np.concatenate([self._lengths, new_lengths])
        counts = np.concatenate([self._counts, new_counts])
        self._lengths, place = np.unique(merged, return_inverse=True)
        self._counts = np.zeros(self._lengths.size, dtype=np.int64)
        np.add.at(self._counts, place, counts)

    @property
    def documents(self) -> int:
        """Number of documents counted."""
        return int(self._counts.sum())

    def share_within(self, tokens: int) -> float:
        """Share of the text that lies within the first tokens of the documents; 1 without any."""
        total = int(self._lengths @ self._counts)
        return int(np.minimum(self._lengths, tokens) @ self._counts) / total if total else 1.0

    def summary(self) -> dict[str, float]:
        """Mean, maximum and quantiles in tokens: half of the documents are no longer than `p50`.

        Empty if there are no documents.
        """
        if not self.documents:
            return {}
        share = np.cumsum(self._counts) / self.documents
        quantiles = {
            f"p{100 * quantile:02.0f}": int(self._lengths[np.searchsorted(share, quantile)])
            for quantile in QUANTILES
        }
        mean = float(self._lengths @ self._counts) / self.documents
        return {"mean": mean, "max": int(self._lengths[-1]), **quantiles}

    def histogram(self, edges: NDArray[np.int64]) -> NDArray[np.float64]:
        """Percentage of the documents in each bin.

        Args:
            edges: int64 [bins + 1], ascending; the last must be beyond every length.

        Returns:
            float64 [bins]; bin i holds lengths from edges[i] to below edges[i + 1].
        """
        bins = np.searchsorted(edges, self._lengths, side="right") - 1
        counts = np.bincount(bins, weights=self._counts, minlength=edges.size - 1)
        return 100 * counts / max(1, self.documents)


def histogram_edges(longest_tokens: int) -> NDArray[np.int64]:
    """Edges that grow by the square root of two, rounded, from 1 to beyond the longest document."""
    doublings = BINS_PER_DOUBLING * (np.ceil(np.log2(longest_tokens + 1)) + 1)
    edges = np.round(2 ** (np.arange(doublings) / BINS_PER_DOUBLING))
    return np.unique(edges.astype(np.int64))
