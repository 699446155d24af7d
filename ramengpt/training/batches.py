"""The micro-batches of a run: what the plans ask for, loaded ahead, and where they are in the data.

Shapes: T packed tokens; a micro-batch arrives as int32 [3, T]: tokens, targets, positions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ramengpt.data.batcher import Cursor, IndexedShard, Int32, fill_batch
from ramengpt.data.preloader import Preloader
from ramengpt.data.validation_stream import ValidationStream
from ramengpt.training.schedules import StepPlan


class Batch(NamedTuple):
    """One packed micro-batch on the device, int32 [T] each."""

    tokens_T: Tensor
    targets_T: Tensor
    positions_T: Tensor


class ValidationBatch(NamedTuple):
    """A micro-batch of which the first ``valid_tokens`` count."""

    tokens_T: Tensor
    targets_T: Tensor
    positions_T: Tensor
    valid_tokens: int


class TrainingBatches(Iterator[Batch]):
    """Micro-batches in the order of the plans.

    Attributes:
        cursor: where the batch after the last one given out starts: loading ahead does not show.
    """

    def __init__(self, preloader: Preloader[Cursor], cursor: Cursor) -> None:
        self._preloader = preloader
        self.cursor = cursor

    def __next__(self) -> Batch:
        batch_3T, self.cursor = next(self._preloader)
        return Batch(batch_3T[0], batch_3T[1], batch_3T[2])


@contextmanager
def training_batches(
    shards: Sequence[IndexedShard],
    cursor: Cursor,
    plans: Sequence[StepPlan],
    device: torch.device,
) -> Iterator[TrainingBatches]:
    """Load the micro-batches of some plans in a thread, as long as the block runs.

    Args:
        shards: the train split.
        cursor: where the first batch starts.
        plans: the steps still to do.
        device: where the batches go.

    Raises:
        ShardError: in ``next``, where a shard cannot be read.
    """
    jobs = _training_jobs(shards, cursor, plans)
    largest_tokens = max((plan.micro_batch_tokens for plan in plans), default=1)
    with Preloader(jobs, largest_tokens, device) as preloader:
        yield TrainingBatches(preloader, cursor)


def _training_jobs(
    shards: Sequence[IndexedShard], cursor: Cursor, plans: Sequence[StepPlan]
) -> Iterator[tuple[int, Callable[[Int32], Cursor]]]:
    def fill(plan: StepPlan, batch_3T: Int32) -> Cursor:
        nonlocal cursor
        cursor = fill_batch(shards, cursor, plan.sequence_tokens, batch_3T)
        return cursor

    for plan in plans:
        for _ in range(plan.micro_batches):
            yield plan.micro_batch_tokens, partial(fill, plan)


def validation_batches(
    stream: ValidationStream, micro_batch_tokens: int, sequence_tokens: int, device: torch.device
) -> Iterator[ValidationBatch]:
    """The validation split from its start, each token once.

    Args:
        stream: the split.
        micro_batch_tokens: of every batch; the last one is padded.
        sequence_tokens: longest context.
        device: where the batches go.
    """
    jobs = (
        (micro_batch_tokens, partial(stream.fill, start, sequence_tokens))
        for start in range(0, stream.num_tokens, micro_batch_tokens)
    )
    with Preloader(jobs, micro_batch_tokens, device) as preloader:
        for batch_3T, valid_tokens in preloader:
            yield ValidationBatch(batch_3T[0], batch_3T[1], batch_3T[2], valid_tokens)
