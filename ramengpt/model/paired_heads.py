"""Paired heads: two heads attend to each other's keys, as one head over a sequence twice as long.

Head h of the first half and head h + H / 2 share a sequence of two slots for each token t: slot 2t
is the first one's, slot 2t + 1 the second one's. It is causal in slots, and its window counts
slots, so that it costs as much as two heads with the same window of tokens apart.

    slot positions 2t, 2t + 1        angles of rotation  2t w  in both

Rotations follow the slots, hence twice the angle for a token. Both slots of a token rotate by the
same angle: one more step in the second slot would be a constant rotation of those heads' queries
and keys, the same as rotating the rows of their weights. In modded-nanogpt this phase alternates
with the head's number, which after its change of shape is not the slot.

Shapes: T packed tokens, H heads, K head_dim.

Source: modded-nanogpt (record 58 of its first track).
"""

import torch
from torch import Tensor

SLOTS = 2
"""Of a token, where heads are paired."""


def slot_positions(positions_T: Tensor, slots: int) -> Tensor:
    """Offsets [slots x T] in a document of slots, from those of its tokens."""
    if slots == 1:
        return positions_T
    order = torch.arange(slots, device=positions_T.device, dtype=positions_T.dtype)
    return (slots * positions_T[:, None] + order).flatten()


def to_slots(x_THK: Tensor, slots: int) -> Tensor:
    """[T, H, K] as [slots x T, H / slots, K], without a copy."""
    tokens, heads, size = x_THK.shape
    return x_THK.reshape(slots * tokens, heads // slots, size)


def from_slots(x: Tensor, slots: int) -> Tensor:
    """The inverse of :func:`to_slots`."""
    rows, heads, size = x.shape
    return x.reshape(rows // slots, slots * heads, size)
