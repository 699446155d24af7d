"""Which documents are held out: those that have next to nothing in common with any other.

A document is held out if at most 2 % of its runs of 13 tokens, and at most 2 % of its runs of 8
words, occur in any other document, held out or not. All others are for training, so nothing is
lost. Text that repeats everywhere (licenses, lists of parameters) is therefore never scored.

Source: runs of 13 as the test of contamination, Brown et al., "Language Models are Few-Shot
Learners" (2020), appendix C; runs of words that survive changes of case, digits and punctuation
(shingles), A. Broder, "On the resemblance and containment of documents" (1997).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ramengpt.data.shards.format import Tokens

RUN_TOKENS = 13
RUN_WORDS = 8
LARGEST_SHARE = 0.02


@dataclass(frozen=True)
class Document:
    """One document.

    Attributes:
        key: hash of its words; equal for texts that differ in case, digits or punctuation only.
        tokens: uint16 [n], token 50256 first.
        words: uint32 [number of words], a hash of each.
    """

    key: bytes
    tokens: Tokens
    words: NDArray[np.uint32]


def split_documents(
    documents: list[Document], val_tokens: int, train_tokens: int
) -> tuple[list[Document], list[Document]]:
    """Hold out documents that share next to nothing with any other.

    Args:
        documents: in their final order.
        val_tokens: at most this many are held out.
        train_tokens: at most this many are for training.

    Returns:
        Whole documents of the validation split, and of the training split.
    """
    shares = np.maximum(
        shares_of_runs([document.tokens[1:] for document in documents], RUN_TOKENS),
        shares_of_runs([document.words for document in documents], RUN_WORDS),
    )
    fresh = [number for number, share in enumerate(shares.tolist()) if share <= LARGEST_SHARE]
    held_out = fresh[: _count_within([documents[number] for number in fresh], val_tokens)]
    taken = set(held_out)
    others = [document for number, document in enumerate(documents) if number not in taken]
    return [documents[number] for number in held_out], others[: _count_within(others, train_tokens)]


def _count_within(documents: list[Document], tokens: int) -> int:
    """How many documents from the first on have no more tokens than that together."""
    ends = np.cumsum([len(document.tokens) for document in documents])
    return int(np.searchsorted(ends, tokens, side="right"))


def shares_of_runs(
    sequences: Sequence[NDArray[np.uint16] | NDArray[np.uint32]], length: int
) -> NDArray[np.float64]:
    """Share of each sequence's runs that also occur in another sequence.

    Args:
        sequences: D of them, each [n].
        length: of a run.

    Returns:
        float64 [D], 0 to 1; 1 for a sequence too short to have a run, of which nothing is known.
    """
    runs = [hashed_runs(sequence, length) for sequence in sequences]
    found, counts = np.unique(
        np.concatenate([np.zeros(0, np.uint64), *map(np.unique, runs)]), return_counts=True
    )
    repeated = found[counts > 1]
    return np.array([_share_among(own, repeated) for own in runs])


def _share_among(own: NDArray[np.uint64], repeated: NDArray[np.uint64]) -> float:
    """Share of the runs that are among `repeated`, which is sorted."""
    if not len(own) or not len(repeated):
        return float(not len(own))
    nearest = repeated[np.searchsorted(repeated, own).clip(max=len(repeated) - 1)]
    return float(np.mean(nearest == own))


def hashed_runs(
    sequence: NDArray[np.uint16] | NDArray[np.uint32], length: int
) -> NDArray[np.uint64]:
    """Hash every run of a sequence.

    Args:
        sequence: [n] tokens, or hashes of words.
        length: of a run.

    Returns:
        uint64 [max(0, n - length + 1)].
    """
    count = max(0, len(sequence) - length + 1)
    values = sequence.astype(np.uint64) + np.uint64(1)
    result = np.zeros(count, dtype=np.uint64)
    for offset in range(length):
        result *= np.uint64(0x9E3779B97F4A7C15)
        result += values[offset : offset + count]
    return result
