"""One step's log row besides the loss: schedule values, step time, memory, MFU."""

import functools
import resource
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch

from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.tracking.clock import StepClock
from ramengpt.training.tracking.deferred import Value


@dataclass(frozen=True)
class Measurements:
    """Makes the rows of a run.

    Attributes:
        clock: seconds of training so far.
        device: where the steps run.
        learning_rates: of each group, before the schedule's multiplier.
        flops_per_token: of training, at a plan's sequence and window.
        flops_per_second: the device's ceiling, for MFU; None where that is unknown.
    """

    clock: StepClock
    device: torch.device
    learning_rates: Mapping[str, float]
    flops_per_token: Callable[[StepPlan], float]
    flops_per_second: float | None

    def of_step(self, plan: StepPlan, step_seconds: Callable[[], float]) -> dict[str, Value]:
        """The row of one step; call its functions in this order.

        Args:
            plan: of the step.
            step_seconds: from the clock.
        """
        return self._planned(plan) | self._timed(plan, step_seconds)

    def of_validation(self, plan: StepPlan) -> dict[str, Value]:
        """The row of a validation; the row of the step before it must be known."""
        return {"tokens": plan.tokens_before + plan.tokens, "seconds": self.clock.seconds}

    def _planned(self, plan: StepPlan) -> dict[str, Value]:
        rates: dict[str, Value] = {
            f"learning_rate_{group}": rate * plan.learning_rate_multiplier
            for group, rate in self.learning_rates.items()
        }
        return rates | {
            "tokens": plan.tokens_before + plan.tokens,
            "momentum": plan.momentum,
            "batch_tokens": plan.tokens,
            "sequence_tokens": plan.sequence_tokens,
            "window_tokens": plan.window_tokens,
        }

    def _timed(self, plan: StepPlan, step_seconds: Callable[[], float]) -> dict[str, Value]:
        read_clock = functools.cache(step_seconds)  # several columns need it; it can be read once
        timed: dict[str, Value] = {
            "step_seconds": read_clock,
            "seconds": lambda: self.clock.seconds,
            "tokens_per_second": lambda: plan.tokens / read_clock(),
            "peak_memory_gib": peak_memory_gib(self.device),
        }
        if self.flops_per_second is not None:
            share = plan.tokens * self.flops_per_token(plan) / self.flops_per_second
            timed["mfu"] = lambda: share / read_clock()
        return timed


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory so far: allocated on a GPU, else the resident set of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def matmul_flops_per_second(device: torch.device, dtype: torch.dtype) -> float | None:
    """The throughput that MFU is relative to: that of a large GEMM of random matrices, measured.

    Args:
        device: measured in about 0.1 seconds.
        dtype: of both factors.

    Returns:
        Median of ten GEMMs; None on the CPU, where MFU is not reported.
    """
    if device.type != "cuda":
        return None
    size = 8192
    with torch.random.fork_rng([device]), torch.cuda.device(device):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        events = [torch.cuda.Event(enable_timing=True) for _ in range(14)]
        for event in events:
            torch.mm(a, b)
            event.record()
        torch.cuda.synchronize()
    seconds = [1e-3 * before.elapsed_time(after) for before, after in pairwise(events[3:])]
    return 2 * size**3 / statistics.median(seconds)
