"""Orders follow from seed, epoch and shard, and lose nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramengpt.data.batches.reading_order import ReadingOrder, cut
from tests.data.make_shards import BOS, indexed, random_tokens

RECORDED_SHARDS = [2, 4, 7, 5, 0, 6, 3, 1]
RECORDED_STARTS = [2, 4, 7, 5, 0, 6, 3, 1]


def shuffled(seed: int = 1, split: bool = False) -> ReadingOrder:
    return ReadingOrder(True, split, seed, 16)


def starts_of(order: ReadingOrder, tokens: list[int], epoch: int = 0, number: int = 0) -> list[int]:
    pieces = order.pieces(indexed(tokens), epoch, number)
    return pieces.bounds(0, len(pieces))[0].tolist()


@pytest.mark.parametrize("split", [False, True])
def test_seed_epoch_and_shard_each_give_another_order(split):
    tokens = random_tokens(0, 3000)
    order = shuffled(split=split)
    found = starts_of(order, tokens)
    assert found == starts_of(shuffled(split=split), tokens)
    others = [
        starts_of(shuffled(2, split), tokens),
        starts_of(order, tokens, epoch=1),
        starts_of(order, tokens, number=1),
    ]
    for other in others:
        assert other != found and sorted(other) == sorted(found)
    assert sorted(found) == starts_of(ReadingOrder(False, split, 1, 16), tokens)


def test_orders_stay_what_they_are():
    """Recorded: a later version must resume the runs of an earlier one."""
    assert [shuffled().shard(0, place, 8) for place in range(8)] == RECORDED_SHARDS
    assert starts_of(shuffled(), [BOS] * 8) == RECORDED_STARTS


def test_every_epoch_reads_every_shard_once_in_another_order():
    orders = [[shuffled().shard(epoch, place, 20) for place in range(20)] for epoch in range(3)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    plain = ReadingOrder(False, False, 1, 16)
    assert [plain.shard(5, place, 20) for place in range(20)] == list(range(20))


def test_shuffling_is_fair():
    """Each of four documents comes first in about a quarter of the epochs."""
    first = [starts_of(shuffled(), [BOS, 1] * 4, epoch)[0] for epoch in range(400)]
    counts = [first.count(start) for start in (0, 2, 4, 6)]
    assert sum(counts) == 400 and min(counts) > 70


def test_a_shard_without_documents_has_no_pieces():
    for order in (shuffled(), shuffled(split=True), ReadingOrder(False, True, 1, 16)):
        assert len(order.pieces(indexed([1, 2, 3]), 0, 0)) == 0


@given(
    lengths=st.lists(st.integers(0, 50), max_size=20),
    piece_tokens=st.integers(1, 60),
    gap=st.integers(0, 3),
)
def test_cut_equals_the_obvious_loop(lengths, piece_tokens, gap):
    starts = np.cumsum([0, *(length + gap for length in lengths)])[:-1]
    expected = [
        (start + first, min(piece_tokens, length - first))
        for start, length in zip(starts.tolist(), lengths, strict=True)
        for first in range(0, length, piece_tokens)
    ]
    found = cut(starts, np.array(lengths, dtype=np.int64), piece_tokens)
    assert list(zip(*(side.tolist() for side in found), strict=True)) == expected
