"""Slices of a micro-batch that does not fit the device as a whole.

Slices are cut between documents, and attention never crosses a document, so every token sees what
it sees in the whole micro-batch. All slices have one length, which compiled code needs: the rest of
a slice is padded with documents of one token and weight 0. With the other tokens' weights, the
losses of the slices add up to the mean loss of the micro-batch, and so do the gradients; only the
order of summation differs.

Shapes: T packed tokens of a micro-batch, S tokens of a slice.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ramengpt.data.batches.batcher import Int32


class Batch(NamedTuple):
    """A micro-batch for training, or a slice of one, on the device; int32 [T] but for weights."""

    tokens_T: Tensor
    targets_T: Tensor
    positions_T: Tensor
    weights_T: Tensor | None
    """Float32 [T], of each token in the micro-batch's mean loss; None for 1 / T."""


def slice_ends(positions_T: Int32, slice_tokens: int) -> list[int]:
    """Cut a micro-batch into as few slices of whole documents as possible, in order.

    Args:
        positions_T: offset of each token in its document; documents hold at most `slice_tokens`.
        slice_tokens: most tokens of a slice.

    Returns:
        The end of each slice; the last is T.
    """
    if positions_T.size <= slice_tokens:
        return [positions_T.size]
    starts = np.append(np.flatnonzero(positions_T == 0), positions_T.size)
    ends = [0]
    while ends[-1] < positions_T.size:
        last = np.searchsorted(starts, ends[-1] + slice_tokens, side="right") - 1
        assert starts[last] > ends[-1], "a document is longer than a slice"
        ends.append(int(starts[last]))
    return ends[1:]


def slices(batch_3T: Tensor, ends: Sequence[int], slice_tokens: int) -> Iterator[Batch]:
    """The slices of a micro-batch, or the micro-batch itself where it is no longer than one.

    Args:
        batch_3T: tokens, targets and positions.
        ends: from :func:`slice_ends`.
        slice_tokens: S, the length of every slice.
    """
    num_tokens = batch_3T.shape[1]
    if num_tokens <= slice_tokens:
        tokens_T, targets_T, positions_T = batch_3T
        yield Batch(tokens_T, targets_T, positions_T, None)
        return
    for start, end in zip([0, *ends], ends, strict=False):
        missing = start + slice_tokens - end
        tokens_T, targets_T, positions_T = batch_3T[:, start:end]
        weights_T = positions_T.new_ones(end - start).float() / num_tokens
        yield Batch(
            F.pad(tokens_T, (0, missing)),
            F.pad(targets_T, (0, missing)),
            F.pad(positions_T, (0, missing)),
            F.pad(weights_T, (0, missing)),
        )


def slice_sizes(micro_batch_tokens: int, sequence_tokens: int, multiple: int) -> list[int]:
    """Slice lengths worth trying, the longest first: for 1, 2, 3, ... slices of a micro-batch.

    With `micro-batch / n + longest document` tokens, n slices always suffice, since in each of them
    less than one document's length stays empty.

    Args:
        micro_batch_tokens: T, a multiple of `multiple`.
        sequence_tokens: longest document.
        multiple: of which lengths are.

    Returns:
        From T down to one longest document.
    """
    shortest = round_up(sequence_tokens, multiple)
    for_n = (
        round_up(-(-micro_batch_tokens // count) + sequence_tokens, multiple)
        for count in range(2, micro_batch_tokens // multiple + 1)
    )
    sizes = {micro_batch_tokens, shortest, *(size for size in for_n if size < micro_batch_tokens)}
    return sorted(sizes, reverse=True)


def round_up(tokens: int, multiple: int) -> int:
    """The next multiple."""
    return -(-tokens // multiple) * multiple
