"""Two heads over one sequence of slots, against dense attention over the interleaved sequence."""

import pytest
import torch

from ramengpt.model.attention_backend import PackedContext
from ramengpt.model.attention_kind import AttentionKind
from ramengpt.model.paired_heads import from_slots, slot_positions, to_slots
from ramengpt.model.rope import Rotary
from tests.model import reference
from tests.model.tiny import packed, tiny_config

PAIRED = AttentionKind("S", 2)
LENGTHS = [150, 1, 3, 102]
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def heads() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(3, 256, 4, 16, generator=generator, dtype=torch.float64))


def attend(backend: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    rotary = Rotary(tiny_config(), 256)
    rotary.set_window(256)
    context = PackedContext(packed(LENGTHS)[2], rotary, [PAIRED], backend, None)
    return from_slots(context.attend(0, PAIRED, *(to_slots(x, 2) for x in (q, k, v))), 2)


@pytest.mark.parametrize("backend", ["flex", "sdpa"])
def test_a_pair_is_one_head_over_the_interleaved_sequence(backend):
    q, k, v = heads()
    found = attend(backend, q, k, v)
    document = (packed(LENGTHS)[2] == 0).cumsum(0).repeat_interleave(2)
    order = torch.arange(512)
    allowed = (document[:, None] == document) & (order[:, None] >= order)
    allowed &= order[:, None] - order < 128
    for first, second in ((0, 2), (1, 3)):
        one_q, one_k, one_v = (
            torch.stack([x[:, first], x[:, second]], dim=1).reshape(512, 16) for x in (q, k, v)
        )
        scores = (one_q @ one_k.T).masked_fill(~allowed, -torch.inf)
        expected = (scores.softmax(-1) @ one_v).view(256, 2, 16)
        torch.testing.assert_close(found[:, first], expected[:, 0])
        torch.testing.assert_close(found[:, second], expected[:, 1])


def test_the_first_slot_of_a_token_does_not_see_its_second():
    q, k, v = heads()
    changed = v.clone()
    changed[100, 2:] += 1
    same = (attend("sdpa", q, k, v) == attend("sdpa", q, k, changed)).all(-1)
    assert same[:100].all() and same[100, :2].all() and not same[100, 2:].any()
    assert not same[101].any()


def test_slots_count_on_from_the_start_of_their_document():
    positions = torch.tensor([0, 1, 2, 0, 0, 1], dtype=torch.int32)
    assert slot_positions(positions, 2).tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 0, 1, 2, 3]
    assert slot_positions(positions, 1) is positions


def test_slots_are_views():
    x = torch.randn(6, 4, 8)
    slots = to_slots(x, 2)
    assert slots.data_ptr() == x.data_ptr() and slots.shape == (12, 2, 8)
    assert torch.equal(slots[1::2], x[:, 2:])
    assert torch.equal(from_slots(slots, 2), x)


@torch.no_grad()
def test_a_step_between_the_slots_is_a_rotation_of_the_second_heads_rows():
    """So both slots of a token may turn by the same angle, and nothing is lost."""
    rotary = Rotary(tiny_config(), 40).double()
    weight, x_TD = torch.randn(16, 32).double(), torch.randn(40, 32).double()
    positions = torch.arange(40, dtype=torch.int32)

    def turned(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        return reference.rope(x[:, None], angles, rotary.frequencies_F)[:, 0]

    expected = turned(reference.norm(x_TD @ weight.T), 2 * positions + 1)
    rows = turned(weight.T, torch.ones(32)).T
    doubled = rotary(positions).doubled()
    found = doubled.turn(reference.norm(x_TD @ rows.T)[:, None])[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # tables are float32
