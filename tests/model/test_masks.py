"""The interval of keys that a query sees, against its definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from ramengpt.model.masks import BLOCK, band, band_mask, block_mask, first_keys, short_window


def random_positions(lengths: list[int], num_blocks: int) -> torch.Tensor:
    """Documents of these lengths, again and again until the blocks are full."""
    total = num_blocks * BLOCK
    positions = torch.cat([torch.arange(n, dtype=torch.int32) for n in lengths])
    return positions.repeat(-(-total // len(positions)))[:total]


positions_strategy = st.builds(
    random_positions,
    st.lists(st.one_of(st.integers(1, 20), st.integers(100, 700)), min_size=1, max_size=8),
    st.integers(1, 9),
)
windows = st.integers(1, 7).map(lambda blocks: blocks * BLOCK)


def dense(positions: torch.Tensor, window: int) -> torch.Tensor:
    """The definition: causal, same document, at most `window` keys."""
    document = (positions == 0).cumsum(0)
    order = torch.arange(len(positions))
    distance = order[:, None] - order[None, :]
    return (document[:, None] == document[None, :]) & (distance >= 0) & (distance < window)


def block_sets(counts: torch.Tensor, indices: torch.Tensor) -> list[set[int]]:
    rows = zip(counts[0, 0].tolist(), indices[0, 0].tolist(), strict=True)
    return [set(row[:count]) for count, row in rows]


def assert_same_blocks(found: BlockMask, expected: BlockMask) -> None:
    for side in ("kv", "full_kv", "q", "full_q"):
        counts, indices = f"{side}_num_blocks", f"{side}_indices"
        one, two = getattr(found, counts), getattr(expected, counts)
        assert torch.equal(one, two), side
        assert block_sets(one, getattr(found, indices)) == block_sets(
            two, getattr(expected, indices)
        ), side
        assert getattr(found, indices).dtype == torch.int32


@settings(deadline=None, max_examples=25)
@given(positions_strategy, windows)
def test_interval_is_the_dense_mask(positions, window):
    first = first_keys(positions, torch.tensor(window, dtype=torch.int32))
    order = torch.arange(len(positions))
    assert first.dtype == torch.int32
    interval = (order[None, :] >= first[:, None]) & (order[None, :] <= order[:, None])
    assert torch.equal(interval, dense(positions, window))


@settings(deadline=None, max_examples=25)
@given(positions_strategy, windows)
def test_block_mask_has_the_blocks_of_create_block_mask(positions, window):
    allowed = dense(positions, window)
    n = len(positions)
    expected = create_block_mask(
        lambda b, h, q, k: allowed[q, k], None, None, n, n, device="cpu", BLOCK_SIZE=BLOCK
    )
    found = block_mask(first_keys(positions, window))
    assert found.shape == expected.shape
    assert_same_blocks(found, expected)


@settings(deadline=None, max_examples=25)
@given(positions_strategy, windows)
def test_band_covers_every_permitted_key_once(positions, window):
    blocks_back = min(-(-(window - 1) // BLOCK), len(positions) // BLOCK)
    keys = band(torch.arange(1.0, len(positions) + 1)[:, None, None], blocks_back)[:, 0, :, 0]
    mask = band_mask(first_keys(positions, window), blocks_back)[:, 0]
    found = torch.zeros(len(positions), len(positions) + 1, dtype=torch.int32)
    columns = keys[:, None].expand(mask.shape).reshape(len(positions), -1).long()
    found.scatter_add_(1, columns, mask.reshape(len(positions), -1).int())
    assert not found[:, 0].any()  # nobody sees the padding
    assert torch.equal(found[:, 1:], dense(positions, window).int())


def test_short_window_is_half_in_whole_blocks():
    assert [short_window(n * BLOCK) // BLOCK for n in (1, 2, 3, 4, 7)] == [1, 1, 1, 2, 3]


def test_block_mask_of_a_broken_block_is_an_error():
    with pytest.raises(ValueError, match="multiple of 128"):
        block_mask(torch.zeros(130, dtype=torch.int32))
