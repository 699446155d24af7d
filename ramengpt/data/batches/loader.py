"""From an indexed split to batches on the device: what training and validation iterate over."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from ramengpt.data.batches.batcher import (
    Batcher,
    BatchRequest,
    Cursor,
    Int32,
    check_documents,
)
from ramengpt.data.batches.indexed_split import IndexedShard
from ramengpt.data.batches.preloader import Fill, Preloader
from ramengpt.data.batches.reading_order import ReadingOrder
from ramengpt.data.batches.slices import Batch, slice_ends, slices
from ramengpt.data.batches.validation_stream import ValidationStream


class ValidationBatch(NamedTuple):
    """A packed validation micro-batch on the device, of which the first `valid_tokens` count."""

    tokens_T: Tensor
    targets_T: Tensor
    positions_T: Tensor
    valid_tokens: int


class TrainingBatches:
    """The micro-batches of a run, each as its slices, assembled and copied ahead of use.

    Use as a context manager, or call :meth:`close`.

    Args:
        shards: the train split.
        order: how it is read.
        cursor: where the first batch starts.
        requests: every micro-batch of the run, in order; lengths may change from one to the next.
            Drawn in the thread that assembles them, a few ahead of use.
        device: where batches are used.
        capacity_tokens: longest micro-batch.
        slice_tokens: length of a slice; micro-batches that are no longer are left whole.

    Raises:
        ShardError: there is nothing to train on.
    """

    def __init__(
        self,
        shards: Sequence[IndexedShard],
        order: ReadingOrder,
        cursor: Cursor,
        requests: Iterable[BatchRequest],
        device: torch.device,
        *,
        capacity_tokens: int,
        slice_tokens: int,
    ) -> None:
        check_documents(shards)
        self._consumed = cursor
        self._slice_tokens = slice_tokens
        jobs = _training_jobs(Batcher(shards, order), cursor, requests, slice_tokens)
        self._preloader = Preloader(jobs, capacity_tokens, device)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[Batch]:
        batch_3T, (self._consumed, ends) = next(self._preloader)
        return list(slices(batch_3T, ends, self._slice_tokens))

    @property
    def cursor(self) -> dict[str, int]:
        """Where the batch after the last one handed out starts: what a checkpoint stores.

        Batches that were assembled ahead do not count. `Cursor.from_json` reads it.
        """
        return self._consumed.to_json()

    def close(self) -> None:
        """End the thread; nothing stays open."""
        self._preloader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _training_jobs(
    batcher: Batcher, cursor: Cursor, requests: Iterable[BatchRequest], slice_tokens: int
) -> Iterator[tuple[int, Fill[tuple[Cursor, list[int]]]]]:
    for num_tokens, sequence_tokens in requests:

        def fill(
            batch_3T: Int32, sequence_tokens: int = sequence_tokens
        ) -> tuple[Cursor, list[int]]:
            nonlocal cursor
            cursor = batcher.fill(cursor, sequence_tokens, batch_3T)
            return cursor, slice_ends(batch_3T[2], slice_tokens)

        yield num_tokens, fill


def validation_batches(
    stream: ValidationStream, request: BatchRequest, device: torch.device
) -> Iterator[ValidationBatch]:
    """Go through the validation split once.

    Args:
        stream: its tokens; says how many there are.
        request: tokens of a micro-batch, and longest piece of a document, which must fit into one.
        device: where batches are used.

    Yields:
        Micro-batches of equal size, each of whole pieces and then padding that does not count.
    """
    with Preloader(_validation_jobs(stream, request), request.num_tokens, device) as preloader:
        for batch_3T, valid_tokens in preloader:
            tokens_T, targets_T, positions_T = batch_3T.unbind()
            yield ValidationBatch(tokens_T, targets_T, positions_T, valid_tokens)


def _validation_jobs(
    stream: ValidationStream, request: BatchRequest
) -> Iterator[tuple[int, Fill[int]]]:
    start = 0

    def fill(batch_3T: Int32) -> int:
        nonlocal start
        valid_tokens = stream.fill(start, request.sequence_tokens, batch_3T)
        start += valid_tokens
        return valid_tokens

    while start < stream.num_tokens:  # a job is drawn when the one before it has been done
        yield request.num_tokens, fill
