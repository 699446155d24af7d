"""SIGTERM and Ctrl-C stop a run at the end of its current step, with everything saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ramengpt.errors import UserError


class InterruptedRunError(UserError):
    """The run was asked to stop. `exit_status` is what the shell expects."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class StopRequest:
    """Whether a signal has asked the run to stop, and which."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_status(self) -> int:
        """The conventional exit status of a process ended by this signal."""
        assert self.signal is not None
        return 128 + self.signal


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGTERM or SIGINT into a request; a second one acts as without this block.

    Yields:
        The request, false until a signal arrives. The earlier handlers are restored at the end.
    """
    request = StopRequest()
    earlier = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, _: FrameType | None) -> None:
        request.signal = number
        for each, handler in earlier.items():
            signal.signal(each, handler)

    for number in earlier:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
