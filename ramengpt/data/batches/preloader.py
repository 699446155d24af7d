"""Assemble the next micro-batches in a thread and copy them to the device ahead of use.

The thread fills a ring of host buffers and knows nothing of the device. The consumer starts the
copy of a batch on a side stream one batch ahead, and returns the buffer to the thread once the copy
is complete: nothing waits for the device, and no buffer is overwritten while it is read. On a GPU
the buffers are pinned, since only then a copy overlaps with computation.

T: tokens of a micro-batch, 3: tokens, targets, positions.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from ramengpt.data.batches.batcher import Int32

RING_BUFFERS = 4
CLOSED = "the preloader was closed"

Note = TypeVar("Note")  # what the thread says about a batch besides its tokens
Fill = Callable[[Int32], Note]


class _Filled(NamedTuple, Generic[Note]):
    buffer: Tensor
    num_tokens: int
    note: Note


class _Ended(NamedTuple):
    error: BaseException | None


class _Copied(NamedTuple, Generic[Note]):
    batch_3T: Tensor
    event: torch.cuda.Event | None
    note: Note


class Preloader(Generic[Note]):
    """Yields (int32 [3, T] on the device, note), in the order of its jobs.

    Use as a context manager, or call :meth:`close`; both end the thread. An error in the thread is
    raised where the batch is asked for, with its own traceback, now and at every later call.

    Args:
        jobs: for each batch its number of tokens and what fills an int32 [3, T] array with it;
            drawn from and called in the thread, in order.
        capacity_tokens: most tokens of a batch.
        device: where batches are used, on the stream that is current then.
    """

    def __init__(
        self, jobs: Iterator[tuple[int, Fill[Note]]], capacity_tokens: int, device: torch.device
    ) -> None:
        self._device = device
        on_gpu = device.type == "cuda"
        self._copies = torch.cuda.Stream(device) if on_gpu else None
        self._free: queue.SimpleQueue[Tensor | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[_Filled[Note] | _Ended] = queue.SimpleQueue()
        for _ in range(RING_BUFFERS):
            shape = (3, capacity_tokens)
            self._free.put(torch.empty(shape, dtype=torch.int32, pin_memory=on_gpu))
        self._copying: deque[tuple[torch.cuda.Event, Tensor]] = deque()
        self._ahead: _Copied[Note] | None = None
        self._end: _Ended | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(jobs,), name="preloader", daemon=True
        )
        self._thread.start()

    def _work(self, jobs: Iterator[tuple[int, Fill[Note]]]) -> None:
        """The thread: until the jobs end, one fails, or close() is called."""
        try:
            for filled in self._fill_buffers(jobs):
                self._ready.put(filled)
            self._ready.put(_Ended(None))
        except BaseException as error:
            self._ready.put(_Ended(error))

    def _fill_buffers(self, jobs: Iterator[tuple[int, Fill[Note]]]) -> Iterator[_Filled[Note]]:
        """A generator, since Python turns a StopIteration that escapes from one into an error."""
        for num_tokens, fill in jobs:
            buffer = self._free.get()
            if buffer is None or self._stopped.is_set():
                raise RuntimeError(CLOSED)
            # One flat block a batch, so that it is copied to the device in one piece.
            batch_3T = buffer.view(-1)[: 3 * num_tokens].view(3, num_tokens)
            yield _Filled(buffer, num_tokens, fill(batch_3T.numpy()))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Tensor, Note]:
        batch = self._ahead or self._copy_next(wait=True)
        self._ahead = None
        if batch is None:
            assert self._end is not None
            raise self._end.error or StopIteration
        if batch.event is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(batch.event)
            batch.batch_3T.record_stream(stream)
            self._ahead = self._copy_next(wait=False)
        return batch.batch_3T, batch.note

    def _copy_next(self, wait: bool) -> _Copied[Note] | None:
        """Start copying the next batch; None at the end, or if that would have to wait."""
        if wait and len(self._copying) == RING_BUFFERS:
            self._copying[0][0].synchronize()
        self._recycle()
        filled = self._take(wait)
        if filled is None:
            return None
        size = 3 * filled.num_tokens
        host_3T = filled.buffer.view(-1)[:size].view(3, filled.num_tokens)
        if self._copies is None:
            batch_3T = host_3T.to(self._device, copy=True)
            self._free.put(filled.buffer)
            return _Copied(batch_3T, None, filled.note)
        with torch.cuda.stream(self._copies):
            batch_3T = host_3T.to(self._device, non_blocking=True)
            event = torch.cuda.Event()
            event.record(self._copies)
        self._copying.append((event, filled.buffer))
        return _Copied(batch_3T, event, filled.note)

    def _recycle(self) -> None:
        """Return buffers whose copy is complete to the thread."""
        while self._copying and self._copying[0][0].query():
            self._free.put(self._copying.popleft()[1])

    def _take(self, wait: bool) -> _Filled[Note] | None:
        """What the thread has ready; remembers how it ended."""
        if self._end is not None:
            return None
        try:
            ready = self._ready.get(block=wait)
        except queue.Empty:
            return None
        if isinstance(ready, _Ended):
            self._end = ready
            return None
        return ready

    def close(self) -> None:
        """End the thread and give up all buffers; batches that were handed out stay valid."""
        self._stopped.set()
        self._free.put(None)
        self._thread.join()
        self._end = _Ended(RuntimeError(CLOSED))
        for event, _ in self._copying:
            event.synchronize()
        self._copying.clear()
        self._ready, self._free = queue.SimpleQueue(), queue.SimpleQueue()
        self._ahead = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
