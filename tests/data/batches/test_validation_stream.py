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


@given(
    shards=shard_lists,
    wanted=st.integers(1, 130),
    num_tokens=st.integers(1, 40),
    sequence_tokens=st.integers(1, 20),
)
@settings(deadline=None, max_examples=300)
def test_every_token_counts_once(shards, wanted, num_tokens, sequence_tokens):
    text = [token for shard in shards for token in shard]
    stream = ValidationStream([indexed(shard) for shard in shards], wanted)
    assert stream.num_tokens == min(wanted, len(text) - 1)
    inputs, targets = [], []
    for start in range(0, stream.num_tokens, num_tokens):
        batch_3T = np.full((3, num_tokens), -1, dtype=np.int32)
        valid = stream.fill(start, sequence_tokens, batch_3T)
        assert valid == num_tokens or start + valid == stream.num_tokens
        position = 0
        for place in range(valid):
            opens = place == 0 or batch_3T[0, place] == BOS or position + 1 == sequence_tokens
            position = 0 if opens else position + 1
            assert batch_3T[2, place] == position
        assert batch_3T[:, valid:].T.tolist() == [[BOS, BOS, 0]] * (num_tokens - valid)
        inputs += batch_3T[0, :valid].tolist()
        targets += batch_3T[1, :valid].tolist()
    assert inputs == text[: stream.num_tokens]
    assert targets == text[1 : stream.num_tokens + 1]


def test_too_little_text():
    with pytest.raises(ShardError, match="val split: tokens: expected at least 2, found 1"):
        ValidationStream([indexed([BOS])], 10)
