"""Logged values that are still being computed by the device when they are logged.

Reading a CUDA tensor makes the host wait until the device has caught up, and the device then
waits for the host's next launch. So a row's tensors are gathered on the device as they come,
copied to the host together now and then, and read once the copy is known to be complete.

Shapes: N values gathered from the rows of one transfer.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Value = float | Tensor | Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One row of a table, all its values known."""

    table: str
    values: dict[str, float]


@dataclass(frozen=True)
class _LoggedRow:
    """A row as it was logged; the device computes the values of ``names``, in that order."""

    table: str
    values: dict[str, Value]
    names: list[str]


@dataclass(frozen=True)
class _Transfer:
    """Rows whose device values are on their way into ``arriving`` [N], complete after ``done``."""

    rows: list[_LoggedRow]
    arriving: Tensor
    done: torch.cuda.Event | None


class DeferredRows:
    """A queue of rows, given back in the order they were put in, all their values as floats.

    Where there is no CUDA, rows are known as soon as they are put in.

    Args:
        rows_a_transfer: most rows that are copied to the host together.
        seconds_a_transfer: fewer are copied together once this time has passed since the last copy.
    """

    def __init__(self, rows_a_transfer: int, seconds_a_transfer: float) -> None:
        self._rows_a_transfer = rows_a_transfer
        self._seconds_a_transfer = seconds_a_transfer
        self._last_transfer_seconds = time.monotonic()
        self._rows: list[_LoggedRow] = []
        self._gathered: list[Tensor] = []
        self._transfers: deque[_Transfer] = deque()

    def put(self, table: str, values: Mapping[str, Value]) -> None:
        """Add a row without waiting for the device.

        Args:
            table: name of the table that the row belongs to.
            values: numbers, one-element tensors (copied at once: their memory may be reused), or
                functions that are called when the device has passed this point, such as the time
                between two CUDA events.
        """
        on_device = {
            name: value.detach().reshape(())
            for name, value in values.items()
            if isinstance(value, Tensor) and value.is_cuda
        }
        if on_device:
            self._gathered.append(torch.stack(list(on_device.values())))
        known = {
            name: value.item() if isinstance(value, Tensor) and not value.is_cuda else value
            for name, value in values.items()
        }
        self._rows.append(_LoggedRow(table, known, list(on_device)))
        waited_seconds = time.monotonic() - self._last_transfer_seconds
        if (
            not torch.cuda.is_initialized()
            or len(self._rows) >= self._rows_a_transfer
            or waited_seconds >= self._seconds_a_transfer
        ):
            self._send()

    def take(self, *, wait: bool = False) -> list[Row]:
        """Give back the rows whose values have reached the host, oldest first.

        Args:
            wait: give back all rows, after waiting for the device.

        Returns:
            The rows, each once.
        """
        if wait:
            self._send()
        rows: list[Row] = []
        while self._transfers:
            done = self._transfers[0].done
            if done is not None:
                if not wait and not done.query():
                    break
                done.synchronize()
            rows += _resolve(self._transfers.popleft())
        return rows

    def _send(self) -> None:
        """Start one copy of all gathered values to the host."""
        if not self._rows:
            return
        values_N = torch.cat(self._gathered) if self._gathered else torch.empty(0)
        arriving = values_N.to("cpu", non_blocking=True)  # into pinned memory
        done = None
        if torch.cuda.is_initialized():
            done = torch.cuda.Event()
            done.record()
        self._transfers.append(_Transfer(self._rows, arriving, done))
        self._rows, self._gathered = [], []
        self._last_transfer_seconds = time.monotonic()


def _resolve(transfer: _Transfer) -> list[Row]:
    arrived = iter(transfer.arriving.tolist())
    rows = []
    for row in transfer.rows:
        from_device = {name: next(arrived) for name in row.names}
        values: dict[str, float] = {}
        for name, value in row.values.items():
            if name in from_device:
                values[name] = from_device[name]
            elif callable(value):
                values[name] = value()
            else:
                assert not isinstance(value, Tensor)
                values[name] = value
        rows.append(Row(row.table, values))
    return rows
