"""Which documents are held out: none that training will have seen, nor anything close to one.

A held-out document that shares many runs of eight words with the training documents is dropped.

Source: word shingles, A. Broder, "On the resemblance and containment of documents" (1997).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ramengpt.data.shards.format import Tokens

SHINGLE_WORDS = 8
SHARED_SHINGLES = 0.25  # a held-out document with more of its shingles in training is dropped


@dataclass(frozen=True)
class Docstring:
    """One document.

    Attributes:
        key: hash of its words; equal for texts that differ in case, digits or punctuation only.
        tokens: uint16 [n], token 50256 first.
        words: uint32 [number of words], a hash of each.
    """

    key: bytes
    tokens: Tokens
    words: NDArray[np.uint32]


def shingles(words: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Hash every run of eight words.

    Args:
        words: uint32 [n].

    Returns:
        uint64 [max(0, n - 7)].
    """
    count = max(0, len(words) - SHINGLE_WORDS + 1)
    result = np.zeros(count, dtype=np.uint64)
    for offset in range(SHINGLE_WORDS):
        result *= np.uint64(0x9E3779B97F4A7C15)
        result += words[offset : offset + count]
    return result


def split_documents(
    documents: list[Docstring], val_tokens: int, train_tokens: int
) -> tuple[list[Docstring], list[Docstring]]:
    """Hold out documents that training will not have seen, nor anything close to them.

    Args:
        documents: in their final order.
        val_tokens: at most this many are held out.
        train_tokens: at most this many are for training.

    Returns:
        Whole documents of the validation split, and of the training split.
    """
    candidates, num_candidates = _take(documents, 2 * val_tokens)
    train, _ = _take(documents[num_candidates:], train_tokens)
    empty = [np.zeros(0, dtype=np.uint64)]
    seen = np.unique(np.concatenate(empty + [shingles(document.words) for document in train]))
    fresh = [document for document in candidates if _share(document, seen) <= SHARED_SHINGLES]
    return _take(fresh, val_tokens)[0], train


def _share(document: Docstring, seen: NDArray[np.uint64]) -> float:
    """Share of a document's shingles that are among `seen` (sorted); 1 if it has none."""
    own = shingles(document.words)
    if not len(own) or not len(seen):
        return float(not len(own))
    nearest = seen[np.searchsorted(seen, own).clip(max=len(seen) - 1)]
    return float(np.mean(nearest == own))


def _take(documents: list[Docstring], tokens: int) -> tuple[list[Docstring], int]:
    """The first documents that have no more tokens than that, and how many they are."""
    ends = np.cumsum([len(document.tokens) for document in documents])
    count = int(np.searchsorted(ends, tokens, side="right"))
    return documents[:count], count
