"""Held-out documents share next to nothing with any other; all others are for training."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.sources.deduplication import (
    LARGEST_SHARE,
    RUN_TOKENS,
    RUN_WORDS,
    Document,
    hashed_runs,
    shares_of_runs,
    split_documents,
)


def document(draw: random.Random, size: int = 50) -> Document:
    """A document of random words, a token each."""
    words = np.array([draw.randrange(2**32) for _ in range(size)], dtype=np.uint32)
    return Document(b"", np.append([50256], words % 50_000).astype(np.uint16), words)


def quoting(first: Document, second: Document, size: int) -> Document:
    """The second document, its beginning replaced by that of the first."""
    words = np.append(first.words[:size], second.words[size:])
    tokens = np.append(first.tokens[: size + 1], second.tokens[size + 1 :])
    return Document(b"", tokens, words)


def runs_of(values: np.ndarray, length: int) -> list[tuple[int, ...]]:
    return [tuple(values[n : n + length].tolist()) for n in range(len(values) - length + 1)]


SEQUENCES = st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=6)


@settings(deadline=None, max_examples=200)
@given(sequences=SEQUENCES, length=st.integers(1, 5))
def test_shares_are_those_of_a_slow_count(sequences, length):
    arrays = [np.array(sequence, dtype=np.uint16) for sequence in sequences]
    runs = [runs_of(array, length) for array in arrays]
    shares = shares_of_runs(arrays, length)
    for number, own in enumerate(runs):
        others = {run for n, found in enumerate(runs) if n != number for run in found}
        expected = sum(run in others for run in own) / len(own) if own else 1.0
        assert shares[number] == expected
        assert len(hashed_runs(arrays[number], length)) == len(own)


def test_documents_that_share_text_are_for_training():
    draw = random.Random(0)
    fresh = [document(draw) for _ in range(30)]
    quotes = [quoting(fresh[n], fresh[n + 1], 15) for n in range(0, 10, 2)]
    order = [*fresh[:15], *quotes, *fresh[15:]]
    val, train = split_documents(order, val_tokens=5 * 51, train_tokens=10**6)
    assert [id(held) for held in val] == [id(fresh[n]) for n in range(10, 15)]
    assert len(train) == len(order) - 5


def test_words_count_where_tokens_differ_and_tokens_where_words_do():
    draw = random.Random(1)
    first, second, third, fourth = (document(draw) for _ in range(4))
    same_words = Document(b"", second.tokens, first.words)
    same_tokens = Document(b"", fourth.tokens, third.words)
    val, _ = split_documents([first, same_words, same_tokens, fourth], 10**6, 10**6)
    assert val == []


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), val_tokens=st.integers(0, 700), train_tokens=st.integers(0, 900))
def test_no_held_out_document_shares_more_than_the_largest_share(seed, val_tokens, train_tokens):
    draw = random.Random(seed)
    fresh = [document(draw, draw.randrange(1, 80)) for _ in range(12)]
    order = fresh + [
        quoting(draw.choice(fresh), draw.choice(fresh), draw.randrange(80)) for _ in range(12)
    ]
    draw.shuffle(order)
    val, train = split_documents(order, val_tokens, train_tokens)
    assert sum(len(held.tokens) for held in val) <= val_tokens
    assert sum(len(trained.tokens) for trained in train) <= train_tokens
    seen_tokens = {run for other in train for run in runs_of(other.tokens[1:], RUN_TOKENS)}
    seen_words = {run for other in train for run in runs_of(other.words, RUN_WORDS)}
    for held in val:
        assert not any(held is trained for trained in train)
        tokens, words = runs_of(held.tokens[1:], RUN_TOKENS), runs_of(held.words, RUN_WORDS)
        assert sum(run in seen_tokens for run in tokens) <= LARGEST_SHARE * len(tokens)
        assert sum(run in seen_words for run in words) <= LARGEST_SHARE * len(words)
