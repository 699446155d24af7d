"""What all benchmarks share: timing on the GPU, a table printed as it grows, and JSON."""

import json
import os
import platform
import statistics
import time
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from ramengpt.files import write_bytes

GRAPH_CALLS = 20


class Report:
    """Rows of measurements, printed as they come and written as JSON at the end."""

    def __init__(self, limit_seconds: float) -> None:
        """Start the clock.

        Args:
            limit_seconds: no measurement starts after this time.
        """
        self.rows: list[dict[str, Any]] = []
        self.failures = 0
        self.deadline = time.monotonic() + limit_seconds

    def time_left(self) -> bool:
        """Whether another measurement may start."""
        return time.monotonic() < self.deadline

    def title(self, text: str) -> None:
        """Print a headline."""
        print(f"\n## {text}", flush=True)

    def add(self, part: str, name: str, **figures: float | str | None) -> None:
        """Record and print one row; figures carry their unit in their name."""
        self.rows.append({"part": part, "name": name} | figures)
        cells = [f"{key} {_short(value)}" for key, value in figures.items() if value is not None]
        print(f"{name:<48} " + "   ".join(cells), flush=True)

    def attempt(self, part: str, measurement: Callable[[], None]) -> None:
        """Run a measurement if there is time; if it fails, report that and continue."""
        if not self.time_left():
            print(f"{part}: left out, no time", flush=True)
            return
        try:
            measurement()
        except Exception as error:  # any error of the GPU or a compiler
            traceback.print_exc()
            self.failures += 1
            self.add(part, "failed", error=f"{type(error).__name__}: {error}"[:300])

    def write(self, path: Path) -> None:
        """Write everything, with the machine and the versions, atomically."""
        text = json.dumps({"machine": machine(), "rows": self.rows}, indent=1)
        write_bytes(path, text.encode())
        print(f"\nwrote {path}", flush=True)


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def machine() -> dict[str, str]:
    """Names and versions that the measurements depend on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    found["cpu_cores"] = str(os.cpu_count())
    if torch.cuda.is_available():
        import triton

        found |= {
            "gpu": torch.cuda.get_device_name(),
            "cuda": str(torch.version.cuda),
            "triton": triton.__version__,
        }
    return found


def study_machine() -> dict[str, str]:
    """Names and versions that losses and seconds depend on."""
    return {name: value for name, value in machine().items() if name != "cpu_cores"}


def random_matrix(
    *shape: int, scale: float = 1.0, dtype: torch.dtype = torch.bfloat16
) -> torch.Tensor:
    """Normal numbers on the GPU: GEMMs of zeros draw less power and run faster than real ones."""
    return (torch.randn(*shape, device="cuda") * scale).to(dtype)


def peak_gib(function: Callable[[], object]) -> float:
    """Peak memory of a call beyond what is allocated before it."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def median_milliseconds(function: Callable[[], object], budget_seconds: float = 0.4) -> float:
    """Median time of a call on the GPU, by events, after three calls to warm up.

    Args:
        function: brings its own fresh inputs if they would stay in the cache.
        budget_seconds: approximate time to repeat for; 5 to 200 repetitions.
    """
    for _ in range(3):
        function()
    torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    torch.cuda.synchronize()
    once_seconds = time.perf_counter() - started
    repeats = max(5, min(200, int(budget_seconds / max(once_seconds, 1e-6))))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        function()
        event.record()
    torch.cuda.synchronize()
    return statistics.median(before.elapsed_time(after) for before, after in pairwise(events))


def graph_milliseconds(function: Callable[[], object]) -> float:
    """Median time of a call without launch overhead: many calls in one CUDA graph."""
    for _ in range(3):
        function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(GRAPH_CALLS):
            function()
    return median_milliseconds(graph.replay, 0.1) / GRAPH_CALLS


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """||found - expected|| / ||expected||, in float64; NaN if there is a NaN."""
    found, expected = found.double(), expected.double()
    return float((found - expected).norm() / expected.norm())
