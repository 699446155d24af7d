"""Micro-batches in slices: whole documents, every token once, one length."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ramengpt.data.batches.slices import slice_ends, slice_sizes, slices

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def positions(lengths: list[int]) -> np.ndarray:
    return np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])


@given(LENGTHS, st.integers(40, 200))
def test_every_document_is_whole_and_every_token_is_there_once(lengths, slice_tokens):
    positions_T = positions(lengths)
    order = torch.arange(positions_T.size, dtype=torch.int32)
    batch_3T = torch.stack([order, order + 1, torch.from_numpy(positions_T)])
    parts = list(slices(batch_3T, slice_ends(positions_T, slice_tokens), slice_tokens))
    if positions_T.size <= slice_tokens:
        (whole,) = parts
        assert torch.equal(torch.stack(whole[:3]), batch_3T) and whole.weights_T is None
        return
    kept = []
    for part in parts:
        counts = part.weights_T > 0
        assert len(part.tokens_T) == slice_tokens
        assert int(part.positions_T[0]) == 0
        assert not part.positions_T[~counts].any()  # fillers see nothing but themselves
        assert (part.weights_T[counts] == 1 / torch.tensor(positions_T.size)).all()
        kept.append(torch.stack([row[counts] for row in part[:3]]))
    assert torch.equal(torch.cat(kept, dim=1), batch_3T)


@given(LENGTHS)
def test_as_many_slices_as_the_size_was_made_for_suffice(lengths):
    positions_T = positions(lengths)
    sizes = slice_sizes(positions_T.size, max(lengths), 1)
    assert sizes[0] == positions_T.size and sizes[-1] == max(lengths)
    assert sizes == sorted(set(sizes), reverse=True)
    for count in range(2, positions_T.size):
        size = -(-positions_T.size // count) + max(lengths)
        if size in sizes:
            assert len(slice_ends(positions_T, size)) <= count


def test_sizes_are_whole_blocks_down_to_one_document():
    sizes = slice_sizes(65_536, 1000, 128)
    assert sizes[:3] == [65_536, 33_792, 22_912]
    assert sizes[-1] == 1024
    assert all(size % 128 == 0 for size in sizes)
