"""The batcher against an obvious loop over tokens."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.batches import batcher
from ramengpt.data.batches.batcher import START, Batcher, Cursor, check_documents, epoch_tokens
from ramengpt.data.batches.reading_order import ReadingOrder
from ramengpt.data.shards.format import ShardError
from tests.data.make_shards import BOS, indexed, random_tokens

PIECE_TOKENS = 12
SEQUENTIAL = ReadingOrder(shuffled=False, split=False, seed=0, piece_tokens=PIECE_TOKENS)
ORDERS = [
    ReadingOrder(shuffled, split, 7, PIECE_TOKENS)
    for shuffled in (False, True)
    for split in (False, True)
]

orders = st.builds(
    ReadingOrder, st.booleans(), st.booleans(), st.integers(0, 9), st.just(PIECE_TOKENS)
)
shard_lists = st.lists(
    st.lists(st.sampled_from([BOS, BOS, 1, 2, 3, 4, 5]), min_size=1, max_size=40),
    min_size=1,
    max_size=4,
).filter(lambda shards: any(BOS in shard[:-1] for shard in shards))
request_lists = st.lists(
    st.tuples(st.integers(1, 50), st.integers(1, PIECE_TOKENS)), min_size=1, max_size=8
)


def documents_of(shard: list[int]) -> list[tuple[int, int]]:
    """Start and end of every document of a shard."""
    starts = [place for place, token in enumerate(shard) if token == BOS]
    return list(pairwise([*starts, len(shard)]))


class SlowBatcher:
    """Walks over pieces and tokens one at a time; only random orders come from the code."""

    def __init__(self, shards: list[list[int]], order: ReadingOrder):
        self.shards = shards
        self.order = order
        self.epoch = self.shard = self.piece = self.read = 0

    def pieces(self) -> list[tuple[int, int]]:
        """Start and end of the current shard's pieces in reading order."""
        number = self.order.shard(self.epoch, self.shard, len(self.shards))
        shard = self.shards[number]
        pieces = []
        for start, following in documents_of(shard):
            end = min(following, len(shard) - 1)
            length = self.order.piece_tokens if self.order.split else max(1, end - start)
            firsts = range(start, end, length) if self.order.split else [start]
            pieces += [(first, min(first + length, end)) for first in firsts]
        if self.order.shuffled:
            found = self.order.pieces(indexed(shard), self.epoch, number).bounds(0, len(pieces))
            shuffled = list(zip(*(side.tolist() for side in found), strict=True))
            assert sorted(shuffled) == pieces
            pieces = shuffled
        return pieces

    def skip_finished_shards(self) -> None:
        """Stand on a piece, in the next shard or epoch if this one has no more."""
        while self.piece >= len(self.pieces()):
            self.piece = 0
            self.shard += 1
            if self.shard == len(self.shards):
                self.shard = 0
                self.epoch += 1

    def batch(self, num_tokens: int, sequence_tokens: int) -> list[list[int]]:
        """The next tokens, targets and positions."""
        tokens, targets, positions = [], [], []
        while len(tokens) < num_tokens:
            self.skip_finished_shards()
            shard = self.shards[self.order.shard(self.epoch, self.shard, len(self.shards))]
            start, end = self.pieces()[self.piece]
            start += self.read
            place = start
            while place < end and len(tokens) < num_tokens:
                position = place - start
                if position >= sequence_tokens and not self.order.split:
                    break
                position %= sequence_tokens
                tokens.append(BOS if position == 0 else shard[place])
                targets.append(shard[place + 1])
                positions.append(position)
                place += 1
            if self.order.split and place < end:
                self.read += place - start
            else:
                self.piece, self.read = self.piece + 1, 0
        return [tokens, targets, positions]


@given(
    shards=shard_lists, order=orders, requests=request_lists, block=st.sampled_from([1, 8, 2**15])
)
@settings(deadline=None, max_examples=400)
def test_equals_the_obvious_loop(shards, order, requests, block):
    slow = SlowBatcher(shards, order)
    fast = Batcher([indexed(shard) for shard in shards], order)
    cursor = START
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batcher, "BLOCK_TOKENS", block)
        for num_tokens, sequence_tokens in requests:
            batch_3T = np.full((3, num_tokens), -1, dtype=np.int32)
            cursor = fast.fill(cursor, sequence_tokens, batch_3T)
            assert batch_3T.tolist() == slow.batch(num_tokens, sequence_tokens)


@given(shards=shard_lists, order=orders, requests=request_lists, stop=st.integers(0, 7))
@settings(deadline=None, max_examples=100)
def test_the_cursor_is_all_there_is_to_know(shards, order, requests, stop):
    """A new batcher that resumes from a stored cursor gives the same batches."""

    def batches(cursor, chosen):
        found = []
        fresh = Batcher([indexed(shard) for shard in shards], order)
        for num_tokens, sequence_tokens in chosen:
            batch_3T = np.zeros((3, num_tokens), dtype=np.int32)
            cursor = fresh.fill(cursor, sequence_tokens, batch_3T)
            found.append(batch_3T.tolist())
        return found, cursor

    whole, end = batches(START, requests)
    first, middle = batches(START, requests[:stop])
    stored = json.dumps(middle.to_json())
    second, again = batches(Cursor.from_json(json.loads(stored)), requests[stop:])
    assert (first + second, again) == (whole, end)


@pytest.mark.parametrize("shuffled", [False, True])
def test_every_epoch_begins_every_document_once(shuffled):
    """Of dropped documents nothing but what truncated ones lose is left out."""
    shards = [random_tokens(seed, 20_000, mean_document_tokens=200) for seed in range(3)]
    fast = Batcher([indexed(shard) for shard in shards], ReadingOrder(shuffled, False, 3, 128))
    starts = [start for shard in shards for start, _ in documents_of(shard)]
    batch_3T = np.zeros((3, 1024), dtype=np.int32)
    cursor, begun = START, 0
    while cursor.epoch < 2:
        previous = cursor
        cursor = fast.fill(cursor, 128, batch_3T)
        tokens_T, targets_T, positions_T = batch_3T
        opens = positions_T == 0
        assert opens[0] and (tokens_T[opens] == BOS).all() and positions_T.max() < 128
        assert (np.diff(positions_T)[~opens[1:]] == 1).all()
        assert (targets_T[:-1][~opens[1:]] == tokens_T[1:][~opens[1:]]).all()
        begun += int(opens.sum())
        assert (cursor.epoch, cursor.shard, cursor.piece) > (
            previous.epoch, previous.shard, previous.piece,
        )  # fmt: skip
    assert 0 <= begun - 2 * len(starts) < 1024


@given(
    shards=shard_lists,
    seed=st.integers(0, 9),
    shuffled=st.booleans(),
    requests=st.lists(st.tuples(st.integers(1, 9), st.integers(1, PIECE_TOKENS)), min_size=80),
)
@settings(deadline=None, max_examples=50)
def test_an_epoch_of_split_documents_predicts_every_token_once(shards, seed, shuffled, requests):
    order = ReadingOrder(shuffled, True, seed, PIECE_TOKENS)
    # Numbered tokens say which ones were predicted.
    numbered, following = [], iter(range(BOS))
    for shard in shards:
        numbered.append([BOS if token == BOS else next(following) for token in shard])
    expected = sorted(
        token for shard in numbered if BOS in shard for token in shard[shard.index(BOS) + 1 :]
    )
    fast = Batcher([indexed(shard) for shard in numbered], order)
    cursor, targets = START, []
    for num_tokens, sequence_tokens in requests:
        batch_3T = np.zeros((3, num_tokens), dtype=np.int32)
        cursor = fast.fill(cursor, sequence_tokens, batch_3T)
        assert (batch_3T[0][batch_3T[2] == 0] == BOS).all()
        targets += batch_3T[1].tolist()
        if len(targets) >= len(expected):
            break
    assert sorted(targets[: len(expected)]) == expected


def test_end_of_a_shard_and_of_an_epoch():
    shards = [indexed([7, BOS, 1, 2, BOS]), indexed([8, 9]), indexed([BOS, 3, BOS, 4, 5])]
    fast = Batcher(shards, SEQUENTIAL)
    batch_3T = np.zeros((3, 3), dtype=np.int32)
    cursor = fast.fill(START, 10, batch_3T)
    assert batch_3T.tolist() == [[BOS, 1, 2], [1, 2, BOS], [0, 1, 2]]
    assert cursor == Cursor(0, 0, 1, 0)  # a last document of one token: it gives nothing
    cursor = fast.fill(cursor, 10, batch_3T)
    assert batch_3T.tolist() == [[BOS, 3, BOS], [3, BOS, 4], [0, 1, 0]]
    assert cursor == Cursor(1, 0, 0, 0)  # the truncated document is done
    batch_3T = np.zeros((3, 9), dtype=np.int32)
    cursor = fast.fill(cursor, 10, batch_3T)
    assert batch_3T[0].tolist() == [BOS, 1, 2, BOS, 3, BOS, 4, BOS, 1]
    assert cursor == Cursor(2, 0, 1, 0)


def test_bos_stands_in_for_the_first_token_of_a_further_piece():
    fast = Batcher([indexed([BOS, 1, 2, 3, 4, 5, 6])], ReadingOrder(False, True, 0, 4))
    batch_3T = np.zeros((3, 3), dtype=np.int32)
    cursor = fast.fill(START, 2, batch_3T)
    assert batch_3T.tolist() == [[BOS, 1, BOS], [1, 2, 3], [0, 1, 0]]
    assert cursor == Cursor(0, 0, 0, 3)
    cursor = fast.fill(cursor, 2, batch_3T)
    assert batch_3T.tolist() == [[BOS, BOS, 5], [4, 5, 6], [0, 0, 1]]
    assert cursor == Cursor(1, 0, 0, 0)


def test_nothing_to_train_on():
    for shards in ([], [[1, 2]], [[1, BOS]], [[BOS], [3]]):
        with pytest.raises(ShardError, match="train split: documents"):
            check_documents([indexed(shard) for shard in shards])
    check_documents([indexed([BOS]), indexed([BOS, 1])])


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize(
    "cursor", [Cursor(0, 1, 0, 0), Cursor(0, 0, 3, 0), Cursor(0, -1, 0, 0), Cursor(0, 0, 0, 2)]
)
def test_a_cursor_of_other_data_is_refused(cursor, order):
    with pytest.raises(ValueError, match="data cursor: "):
        Batcher([indexed([BOS, 1, BOS, 2, 3])], order).fill(
            cursor, 4, np.zeros((3, 4), dtype=np.int32)
        )


@pytest.mark.parametrize(
    "content",
    [{}, {"epoch": 0, "shard": 0, "piece": 0},
     {"epoch": 0, "shard": 0, "piece": -1, "piece_tokens_read": 0},
     {"epoch": 0, "shard": 0, "piece": 1.0, "piece_tokens_read": 0},
     {"epoch": 0, "shard": 0, "piece": 0, "piece_tokens_read": 0, "x": 0}],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(content):
    with pytest.raises(ValueError, match="data cursor: expected"):
        Cursor.from_json(content)


@given(shards=shard_lists, order=orders, sequence_tokens=st.integers(1, PIECE_TOKENS))
@settings(deadline=None)
def test_an_epochs_tokens_are_what_an_epoch_contributes(shards, order, sequence_tokens):
    num_tokens = sum(epoch_tokens(indexed(shard), order, sequence_tokens) for shard in shards)
    slow = SlowBatcher(shards, order)
    slow.batch(num_tokens, sequence_tokens)
    while slow.epoch == 0:  # only pieces without a token are left
        assert slow.read == 0
        slow.skip_finished_shards()
        if slow.epoch == 0:
            start, end = slow.pieces()[slow.piece]
            assert start == end
            slow.piece += 1
