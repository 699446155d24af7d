"""A stream of tokens: positions and counts do not depend on how records fell into batches."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.text import readers, token_stream
from ramengpt.data.text.readers import RecordBatch
from ramengpt.data.text.token_stream import COUNTS, TokenStream, encode_batch, read_batches

RECORD = st.one_of(
    st.sampled_from([None, b"", b"\xffa", b"\xe2\x82", b"<|endoftext|>"]),
    st.text("ab c", max_size=12).map(str.encode),
)


class Memory:
    """A source in memory whose batches hold any number of records."""

    def __init__(self, records, size):
        self.records, self.size = records, size
        self.name = "memory"

    def batches(self, first_record):
        for first in range(first_record, len(self.records), self.size):
            batch = self.records[first : first + self.size]
            yield RecordBatch(batch, "text", "text", "memory", first)


@settings(deadline=None, max_examples=60)
@given(
    files=st.lists(st.lists(RECORD, max_size=8), min_size=1, max_size=3),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    reads=st.lists(st.integers(1, 9), min_size=1, max_size=30),
)
def test_positions_and_counts_do_not_depend_on_batches(files, sizes, reads):
    """Reading on from a recorded position gives the same tokens, positions and counts."""

    def stream_from(position, size):
        sources = [Memory(records, size) for records in files]
        batches = (encode_batch(*pair) for pair in read_batches(sources, position))
        return TokenStream(batches, position)

    straight = stream_from((0, 0, 0), sizes[0])
    position = (0, 0, 0)
    for limit in reads:
        straight.counts = dict.fromkeys(COUNTS, 0)
        expected = take(straight, limit)
        if not len(expected):
            break
        resumed = stream_from(position, sizes[1])
        assert np.array_equal(take(resumed, limit), expected)
        assert resumed.position == straight.position
        assert resumed.counts == straight.counts
        position = straight.position


def take(stream: TokenStream, limit: int) -> np.ndarray:
    parts = [stream.read(limit)]
    while len(parts[-1]) and sum(map(len, parts)) < limit:
        parts.append(stream.read(limit - sum(map(len, parts))))
    return np.concatenate(parts)


def test_a_batch_ahead_is_bounded():
    assert token_stream.BATCHES_AHEAD * 16 * readers.BATCH_BYTES < token_stream.BYTES_AHEAD
