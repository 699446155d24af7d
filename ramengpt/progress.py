"""Progress of a long job: a bar on a terminal, a plain line every few seconds anywhere else."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Self, TextIO

PLAIN_INTERVAL_SECONDS = 5.0
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def say(line: str) -> None:
    """Print a line on standard output and flush it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def scaled(value: float, unit: str) -> str:
    """Write a quantity with three digits and a decimal prefix, e.g. `1.25 GB`, `83 tokens`."""
    gap = "" if unit == "B" else " "
    for scale, prefix in _SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {prefix}{gap}{unit}"
    return f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """Write a time, e.g. `12 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def bar_on_terminal(
    stream: TextIO, label: str, total: float | None
) -> Iterator[Callable[[float, str], None]]:
    """Show a progress bar while the block runs.

    Args:
        stream: a terminal.
        label: shown before the bar.
        total: amount of work; None if unknown.

    Yields:
        A function of the amount done and the text to show behind the bar, which updates it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    before, behind = TextColumn("{task.description}"), TextColumn("{task.fields[status]}")
    with Bar(before, BarColumn(bar_width=None), behind, console=Console(file=stream)) as bar:
        task = bar.add_task(label, total=total, status="")
        yield lambda done, status: bar.update(task, completed=done, status=status)


class Progress:
    """Count work done and show its rate and the time left; use as a context manager.

    Several threads may advance it. Work that was `done` before the start counts towards the total,
    not towards the rate.

    Args:
        label: what is being done, e.g. `download fineweb10B`.
        total: amount of work, in `unit`; None if it is unknown.
        unit: `B` for bytes, else a plural noun such as `tokens`.
        done: amount already done before the start.
        stream: where to write; standard error if None.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        label: str,
        total: float | None,
        unit: str,
        *,
        done: float = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = done
        self._before = done
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._lock = threading.Lock()
        self._exit = ExitStack()
        self._refresh: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        self._start = self._last_line = self._clock()
        if self._stream.isatty():
            self._open_bar()
        return self

    def _open_bar(self) -> None:
        update = self._exit.enter_context(bar_on_terminal(self._stream, self.label, self.total))
        update(self.done, "")
        self._refresh = lambda: update(self.done, self.status())

    def advance(self, amount: float) -> None:
        """Count `amount` more as done; negative for work that must be redone."""
        with self._lock:
            self.done += amount
            now = self._clock()
            if self._refresh is not None:
                self._refresh()
            elif now - self._last_line >= PLAIN_INTERVAL_SECONDS:
                self._last_line = now
                self._write_line()

    def status(self) -> str:
        """Done, rate and time left as text, e.g. `412 MB of 2 GB (20%), 35 MB/s, 45 s left`."""
        elapsed = self._clock() - self._start
        rate = (self.done - self._before) / elapsed if elapsed > 0 else 0.0
        parts = [scaled(self.done, self.unit)]
        if self.total:
            parts[0] += f" of {scaled(self.total, self.unit)} ({self.done / self.total:.0%})"
        if rate > 0:
            parts.append(f"{scaled(rate, self.unit)}/s")
            if self.total and self.done < self.total:
                parts.append(f"{duration((self.total - self.done) / rate)} left")
        return ", ".join(parts)

    def _write_line(self) -> None:
        self._stream.write(f"{self.label}: {self.status()}\n")
        self._stream.flush()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._refresh is None and kind is None:
            self._write_line()
        self._exit.close()
