import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.batches.validation_stream import ValidationStream
from ramengpt.data.shards.format import ShardError
from tests.data.make_shards import BOS, indexed

shard_lists = st.lists(
    st.lists(st.sampled_from([BOS, 1, 2, 3, 4]), min_size=1, max_size=40), min_size=1, max_size=3
).filter(lambda shards: sum(len(shard) for shard in shards) >= 2)


def slow_pieces(text: list[int], sequence_tokens: int) -> list[list[int]]:
    """The offsets of each piece's tokens, found by walking."""
    pieces: list[list[int]] = []
    for place, token in enumerate(text):
        if not pieces or token == BOS or len(pieces[-1]) == sequence_tokens:
            pieces.append([])
        pieces[-1].append(place)
    return pieces


@given(
    shards=shard_lists,
    wanted=st.integers(1, 130),
    sequence_tokens=st.integers(1, 20),
    extra=st.integers(0, 30),
)
@settings(deadline=None, max_examples=300)
def test_whole_pieces_are_packed_and_every_token_counts_once(
    shards, wanted, sequence_tokens, extra
):
    text = [token for shard in shards for token in shard]
    stream = ValidationStream([indexed(shard) for shard in shards], wanted)
    assert stream.num_tokens == min(wanted, len(text) - 1)
    pieces = slow_pieces(text[: stream.num_tokens], sequence_tokens)
    num_tokens, start = sequence_tokens + extra, 0
    while start < stream.num_tokens:
        batch_3T = np.full((3, num_tokens), -1, dtype=np.int32)
        valid = stream.fill(start, sequence_tokens, batch_3T)
        packed = []
        while pieces and len(packed) + len(pieces[0]) <= num_tokens:
            packed += [[text[at], text[at + 1], n] for n, at in enumerate(pieces.pop(0))]
        assert batch_3T.T.tolist() == packed + [[BOS, BOS, 0]] * (num_tokens - len(packed))
        assert valid == len(packed) > 0
        start += valid
    assert start == stream.num_tokens and not pieces


def test_a_batch_that_holds_no_piece_is_refused():
    stream = ValidationStream([indexed([BOS] * 50)], 40)
    with pytest.raises(ValueError, match="room for one piece, found 7 tokens for pieces of 8"):
        stream.fill(0, 8, np.zeros((3, 7), dtype=np.int32))


def test_too_little_text():
    with pytest.raises(ShardError, match="val split: tokens: expected at least 2, found 1"):
        ValidationStream([indexed([BOS])], 10)


@given(shards=shard_lists, wanted=st.integers(1, 130))
@settings(deadline=None, max_examples=50)
def test_bytes_are_those_of_the_tokens_that_are_predicted(shards, wanted):
    text = [token for shard in shards for token in shard]
    lengths = np.zeros(BOS + 1, dtype=np.int64)
    lengths[:5] = [0, 1, 10, 100, 1000]
    stream = ValidationStream([indexed(shard) for shard in shards], wanted)
    expected = sum(int(lengths[token]) for token in text[1 : stream.num_tokens + 1])
    assert stream.text_bytes(lengths) == expected
