import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.index import document_lengths
from ramengpt.data.index.document_lengths import QUANTILES, DocumentLengths, histogram_edges
from tests.data.make_shards import BOS, indexed

shard_lists = st.lists(
    st.lists(st.sampled_from([BOS, 1, 2]), min_size=1, max_size=60), min_size=1, max_size=4
)


def reference_lengths(shards: list[list[int]]) -> list[int]:
    """Lengths of the documents of one long text."""
    lengths = []
    for token in (token for shard in shards for token in shard):
        if token == BOS:
            lengths.append(0)
        if lengths:
            lengths[-1] += 1
    return sorted(lengths)


@given(shards=shard_lists, chunk=st.sampled_from([1, 2, 7, 1000]))
@settings(deadline=None, max_examples=150)
def test_counts_documents_across_shards(shards, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_lengths, "CHUNK_DOCUMENTS", chunk)
        found = DocumentLengths()
        for shard in shards:
            found.add_shard(indexed(shard).offsets, len(shard))
        found.finish()
    expected = reference_lengths(shards)
    assert found.documents == len(expected)
    if not expected:
        assert found.summary() == {}
        return
    summary = found.summary()
    assert summary["max"] == expected[-1]
    assert summary["mean"] == pytest.approx(np.mean(expected))
    for quantile in QUANTILES:
        value = np.quantile(expected, quantile, method="inverted_cdf")
        assert summary[f"p{100 * quantile:02.0f}"] == value


@given(lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=50))
@settings(deadline=None, max_examples=50)
def test_the_histogram_holds_every_document(lengths):
    found = DocumentLengths()
    ends = np.cumsum(lengths)
    found.add_shard(ends - lengths, int(ends[-1]))
    found.finish()
    edges = histogram_edges(max(lengths))
    expected = np.histogram(lengths, bins=edges)[0]  # its last bin is closed, but nothing is there
    assert edges[0] == 1 and edges[-1] > max(lengths)
    np.testing.assert_allclose(found.histogram(edges), 100 * expected / len(lengths))
    assert found.histogram(edges).sum() == pytest.approx(100)


def test_no_documents():
    found = DocumentLengths()
    found.add_shard(np.zeros(0, dtype=np.int64), 10)
    found.finish()
    assert found.histogram(histogram_edges(1)).sum() == 0


@given(shards=shard_lists, tokens=st.integers(1, 70))
@settings(deadline=None, max_examples=50)
def test_share_within_the_first_tokens(shards, tokens):
    found = DocumentLengths()
    for shard in shards:
        found.add_shard(indexed(shard).offsets, len(shard))
    found.finish()
    lengths = reference_lengths(shards)
    share = sum(min(length, tokens) for length in lengths) / sum(lengths) if lengths else 1
    assert found.share_within(tokens) == pytest.approx(share)
