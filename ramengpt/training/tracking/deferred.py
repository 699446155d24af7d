"""Log values that the device has not computed yet.

Reading a CUDA tensor makes the host wait for the device, and the device then idles until the host's
next launch. So the tensors of several rows are collected on the device, copied to the host
together, and read once that copy has completed.

Shapes: N values from the rows of one transfer.
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
    """A row as it was logged; the device computes the values named in ``names``, in that order."""

    table: str
    values: dict[str, Value]
    names: list[str]


@dataclass(frozen=True)
class _Transfer:
    """Rows whose device values are being copied into ``arriving`` [N]; complete after ``done``."""

    rows: list[_LoggedRow]
    arriving: Tensor
    done: torch.cuda.Event | None


class DeferredRows:
    """A queue of rows: first in, first out, their values as floats.

    Without CUDA, rows come out as soon as they are put in.

    Args:
        rows_per_transfer: copy to the host once this many rows are waiting,
        seconds_between_transfers: or once this time has passed since the last copy.
    """

    def __init__(self, rows_per_transfer: int, seconds_between_transfers: float) -> None:
        self._rows_per_transfer = rows_per_transfer
        self._seconds_between_transfers = seconds_between_transfers
        self._last_transfer_seconds = time.monotonic()
        self._rows: list[_LoggedRow] = []
        self._gathered: list[Tensor] = []
        self._transfers: deque[_Transfer] = deque()

    def put(self, table: str, values: Mapping[str, Value]) -> None:
        """Add a row without waiting for the device.

        Args:
            table: name of the table that the row belongs to.
            values: numbers, one-element tensors (copied at once: their memory may be reused), or
                functions to call once the device has passed this point, such as the time between
                two CUDA events.
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
            or len(self._rows) >= self._rows_per_transfer
            or waited_seconds >= self._seconds_between_transfers
        ):
            self._send()

    def take(self, *, wait: bool = False) -> list[Row]:
        """Remove and return the rows whose values have reached the host, oldest first.

        Args:
            wait: wait for the device, and return all rows.
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
        """Start one copy of all collected values to the host."""
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
