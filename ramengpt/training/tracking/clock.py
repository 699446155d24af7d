"""How long training steps take, without synchronising with the device."""

import time
from collections.abc import Callable

import torch


class StepClock:
    """Seconds spent in training steps, without validation and checkpoints.

    On CUDA a step is timed by events on the stream, which can be read only once the device has
    passed them. So every reading is a function to call later, in the order of the steps.

    Args:
        device: where the steps run.
        seconds: spent before a resume, from the checkpoint.
    """

    def __init__(self, device: torch.device, seconds: float) -> None:
        self._on_cuda = device.type == "cuda"
        self.seconds = seconds

    def start(self) -> Callable[[], Callable[[], float]]:
        """Begin a step.

        Returns:
            A function to call at the step's end. It returns another, to call once later, which
            returns the step's seconds and adds them to :attr:`seconds`.
        """
        if self._on_cuda:
            return self._start_on_cuda()
        started = time.perf_counter()

        def stop() -> Callable[[], float]:
            step_seconds = time.perf_counter() - started
            return lambda: self._count(step_seconds)

        return stop

    def _start_on_cuda(self) -> Callable[[], Callable[[], float]]:
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()

        def stop() -> Callable[[], float]:
            end.record()
            return lambda: self._count(begin.elapsed_time(end) / 1000)

        return stop

    def _count(self, step_seconds: float) -> float:
        self.seconds += step_seconds
        return step_seconds
