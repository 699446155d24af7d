"""The batcher against an obvious loop over tokens."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.batches import batcher
from ramengpt.data.batches.batcher import START, Cursor, check_documents, epoch_tokens, fill_batch
from ramengpt.data.shards.format import ShardError
from tests.data.make_shards import BOS, indexed, random_tokens

shard_lists = st.lists(
    st.lists(st.sampled_from([BOS, BOS, 1, 2, 3, 4, 5]), min_size=1, max_size=40),
    min_size=1,
    max_size=4,
).filter(lambda shards: any(BOS in shard[:-1] for shard in shards))
request_lists = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 30)), min_size=1, max_size=8)


def documents_of(shard: list[int]) -> list[tuple[int, int]]:
    """Start and end of every document of a shard."""
    starts = [place for place, token in enumerate(shard) if token == BOS]
    return list(pairwise([*starts, len(shard)]))


class SlowBatcher:
    """Walks over documents and tokens one at a time."""

    def __init__(self, shards: list[list[int]], cursor: Cursor):
        self.shards = shards
        self.epoch, self.shard, self.document = cursor.epoch, cursor.shard, cursor.document

    def skip_finished_shards(self) -> None:
        """Stand on a document, in the next shard or epoch if this one has no more."""
        while self.document >= len(documents_of(self.shards[self.shard])):
            self.document = 0
            self.shard += 1
            if self.shard == len(self.shards):
                self.shard = 0
                self.epoch += 1

    def batch(self, num_tokens: int, sequence_tokens: int) -> list[list[int]]:
        """The next tokens, targets and positions."""
        tokens, targets, positions = [], [], []
        while len(tokens) < num_tokens:
            self.skip_finished_shards()
            shard = self.shards[self.shard]
            start, end = documents_of(shard)[self.document]
            for place in range(start, end):
                position = place - start
                if position == sequence_tokens or len(tokens) == num_tokens:
                    break
                if place + 1 == len(shard):
                    break
                tokens.append(shard[place])
                targets.append(shard[place + 1])
                positions.append(position)
            self.document += 1
        return [tokens, targets, positions]


@given(shards=shard_lists, requests=request_lists, block=st.sampled_from([1, 8, 2**15]))
@settings(deadline=None, max_examples=400)
def test_equals_the_obvious_loop(shards, requests, block):
    slow = SlowBatcher(shards, START)
    fast = [indexed(shard) for shard in shards]
    cursor = START
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batcher, "BLOCK_TOKENS", block)
        for num_tokens, sequence_tokens in requests:
            batch_3T = np.full((3, num_tokens), -1, dtype=np.int32)
            cursor = fill_batch(fast, cursor, sequence_tokens, batch_3T)
            assert batch_3T.tolist() == slow.batch(num_tokens, sequence_tokens)
            cursor = Cursor.from_json(json.loads(json.dumps(cursor.to_json())))
            slow.skip_finished_shards()
            after = (cursor.epoch, cursor.shard, cursor.document)
            assert after == (slow.epoch, slow.shard, slow.document) or not documents_of(
                shards[cursor.shard]
            )


@given(shards=shard_lists, requests=request_lists, split=st.integers(0, 7))
@settings(deadline=None, max_examples=100)
def test_the_cursor_is_all_there_is_to_know(shards, requests, split):
    """Going on from a stored cursor, in another process so to say, gives the same batches."""

    def batches(cursor, chosen):
        found = []
        for num_tokens, sequence_tokens in chosen:
            batch_3T = np.zeros((3, num_tokens), dtype=np.int32)
            cursor = fill_batch([indexed(s) for s in shards], cursor, sequence_tokens, batch_3T)
            found.append(batch_3T.tolist())
        return found, cursor

    whole, end = batches(START, requests)
    first, middle = batches(START, requests[:split])
    stored = json.dumps(middle.to_json())
    second, again = batches(Cursor.from_json(json.loads(stored)), requests[split:])
    assert (first + second, again) == (whole, end)


def test_properties_on_longer_text():
    """Every epoch gives every document's start once; nothing but cut documents is left out."""
    shards = [random_tokens(seed, 20_000, mean_document_tokens=200) for seed in range(3)]
    fast = [indexed(shard) for shard in shards]
    starts = [start for shard in shards for start, _ in documents_of(shard)]
    batch_3T = np.zeros((3, 1024), dtype=np.int32)
    cursor, begun = START, 0
    while cursor.epoch < 2:
        previous = cursor
        cursor = fill_batch(fast, cursor, 128, batch_3T)
        tokens_T, targets_T, positions_T = batch_3T
        opens = positions_T == 0
        assert opens[0] and (tokens_T[opens] == BOS).all() and positions_T.max() < 128
        assert (np.diff(positions_T)[~opens[1:]] == 1).all()
        assert (targets_T[:-1][~opens[1:]] == tokens_T[1:][~opens[1:]]).all()
        begun += int(opens.sum())
        assert (cursor.epoch, cursor.shard, cursor.document) > (
            previous.epoch, previous.shard, previous.document,
        )  # fmt: skip
    assert 0 <= begun - 2 * len(starts) < 1024


def test_end_of_a_shard_and_of_an_epoch():
    shards = [indexed([7, BOS, 1, 2, BOS]), indexed([8, 9]), indexed([BOS, 3, BOS, 4, 5])]
    batch_3T = np.zeros((3, 3), dtype=np.int32)
    cursor = fill_batch(shards, START, 10, batch_3T)
    assert batch_3T.tolist() == [[BOS, 1, 2], [1, 2, BOS], [0, 1, 2]]
    assert cursor == Cursor(0, 0, 1)  # a last document of one token: it gives nothing
    cursor = fill_batch(shards, cursor, 10, batch_3T)
    assert batch_3T.tolist() == [[BOS, 3, BOS], [3, BOS, 4], [0, 1, 0]]
    assert cursor == Cursor(1, 0, 0)  # the cut document is done
    batch_3T = np.zeros((3, 9), dtype=np.int32)
    cursor = fill_batch(shards, cursor, 10, batch_3T)
    assert batch_3T[0].tolist() == [BOS, 1, 2, BOS, 3, BOS, 4, BOS, 1]
    assert cursor == Cursor(2, 0, 1)


def test_nothing_to_train_on():
    for shards in ([], [[1, 2]], [[1, BOS]], [[BOS], [3]]):
        with pytest.raises(ShardError, match="train split: documents"):
            check_documents([indexed(shard) for shard in shards])
    check_documents([indexed([BOS]), indexed([BOS, 1])])


@pytest.mark.parametrize("cursor", [Cursor(0, 1, 0), Cursor(0, 0, 3), Cursor(0, -1, 0)])
def test_a_cursor_of_other_data_is_refused(cursor):
    with pytest.raises(ValueError, match="data cursor: "):
        fill_batch([indexed([BOS, 1, BOS, 2])], cursor, 4, np.zeros((3, 4), dtype=np.int32))


@pytest.mark.parametrize(
    "content",
    [{}, {"epoch": 0, "shard": 0}, {"epoch": 0, "shard": 0, "document": -1},
     {"epoch": 0, "shard": 0, "document": 1.0}, {"epoch": 0, "shard": 0, "document": 0, "x": 0}],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(content):
    with pytest.raises(ValueError, match="data cursor: expected"):
        Cursor.from_json(content)


@given(shards=shard_lists, sequence_tokens=st.integers(1, 30))
@settings(deadline=None)
def test_a_batch_of_an_epochs_tokens_begins_every_document_once(shards, sequence_tokens):
    num_tokens = epoch_tokens([indexed(shard) for shard in shards], sequence_tokens)
    positions = SlowBatcher(shards, START).batch(num_tokens, sequence_tokens)[2]
    ends = [(start, len(shard)) for shard in shards for start, _ in documents_of(shard)]
    assert positions.count(0) == sum(start + 1 < length for start, length in ends)
