"""Rotations, and what a new window does to them."""

import math

import pytest
import torch

from ramengpt.model.rope import Rotary
from tests.model.tiny import tiny_config


def rotary(max_sequence_tokens: int = 64, **changes: object) -> Rotary:
    return Rotary(tiny_config(**changes), max_sequence_tokens)


def test_products_depend_on_the_distance_only():
    rope = rotary().double()
    rope.set_window(128)
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 16, generator=generator, dtype=torch.float64)
    positions = torch.arange(64, dtype=torch.int32)
    q_T, k_T = (rope(positions).turn(x.expand(64, 1, 16))[:, 0] for x in (q, k))
    scores = q_T @ k_T.T
    for distance in (0, 1, 17, 63):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-12)
    assert scores[:, 0].std() > 0.1


def test_second_and_fourth_quarter_never_turn():
    x = torch.arange(16.0).expand(64, 1, 16)
    turned = rotary()(torch.arange(64, dtype=torch.int32)).turn(x)
    moved = (turned != x).any(0)[0]
    assert moved.tolist() == ([True] * 4 + [False] * 4) * 2


def test_first_frequency_is_one_and_last_is_one_over_base():
    frequencies = rotary().frequencies_F
    torch.testing.assert_close(frequencies[[0, -1]], torch.tensor([1.0, 1 / 1024]))


def test_first_window_stretches_nothing_and_the_same_again_neither():
    rope = rotary()
    before = rope.frequencies_F.clone()
    for _ in range(2):
        rope.set_window(384)
        assert torch.equal(rope.frequencies_F, before)
        assert rope.attention_scale == tiny_config().attention_scale


def test_a_new_window_stretches_slow_rotations_by_the_ratio_and_fast_ones_not():
    rope = rotary().double()
    rope.set_window(384)
    old, old_cos = rope.frequencies_F.clone(), rope.cos_PF.clone()
    rope.set_window(896)
    for before, after in zip(old.tolist(), rope.frequencies_F.tolist(), strict=True):
        rotations = 384 * before / (2 * math.pi)
        kept = min(max((rotations - 1) / 31, 0), 1)
        assert after == pytest.approx(before * (384 / 896 + kept * (1 - 384 / 896)), rel=1e-12)
    assert rope.frequencies_F[0] == old[0]
    scale = tiny_config().attention_scale * (1 + 0.2 * math.log(896 / 384))
    assert float(rope.attention_scale) == pytest.approx(scale, rel=1e-6)
    assert not torch.equal(rope.cos_PF, old_cos)
    torch.testing.assert_close(rope.cos_PF[5], (5 * rope.frequencies_F).cos())
    assert (int(rope.long_window_tokens), int(rope.short_window_tokens)) == (896, 384)


def test_without_yarn_only_the_window_changes():
    rope = rotary(yarn=False)
    rope.set_window(128)
    before = rope.frequencies_F.clone()
    rope.set_window(1024)
    assert torch.equal(rope.frequencies_F, before)
    assert int(rope.long_window_tokens) == 1024


def test_windows_change_in_place():
    rope = rotary()
    addresses = [buffer.data_ptr() for buffer in rope.buffers()]
    rope.set_window(128)
    rope.set_window(512)
    assert [buffer.data_ptr() for buffer in rope.buffers()] == addresses


def test_a_checkpoint_restores_everything_that_windows_changed():
    rope = rotary()
    rope.set_window(128)
    rope.set_window(512)
    other = rotary(max_sequence_tokens=256)  # tables may be longer
    other.load_state_dict(rope.state_dict())
    assert other.windows == rope.windows and other.has_window
    assert int(other.short_window_tokens) == 256
    assert torch.equal(other.cos_PF[:64], rope.cos_PF)
    rope.set_window(1024)
    other.set_window(1024)
    assert torch.equal(other.sin_PF[:64], rope.sin_PF)


def test_a_temporary_window_leaves_no_trace():
    rope = rotary()
    rope.set_window(128)
    rope.set_window(384)
    before = [buffer.clone() for buffer in rope.buffers()]
    addresses = [buffer.data_ptr() for buffer in rope.buffers()]
    with rope.temporary_window(896):
        assert rope.windows["L"] == 896
    assert rope.windows == {"L": 384, "S": 128}
    for buffer, expected, address in zip(rope.buffers(), before, addresses, strict=True):
        assert torch.equal(buffer, expected) and buffer.data_ptr() == address


def test_a_temporary_window_before_the_first_leaves_none():
    rope = rotary()
    with rope.temporary_window(896):
        assert rope.has_window
    assert not rope.has_window
    rope.set_window(128)
    assert rope.attention_scale == tiny_config().attention_scale


@pytest.mark.parametrize("window", [0, -128, 100])
def test_a_window_of_broken_blocks_is_an_error(window):
    with pytest.raises(ValueError, match="multiple of 128"):
        rotary().set_window(window)
