"""Peak FLOP/s and memory bandwidth of this GPU, measured in the same run: the roofline."""

from dataclasses import dataclass

import torch

from benchmarks.report import Report, median_milliseconds


@dataclass(frozen=True)
class Ceilings:
    """The best this GPU achieves on large, simple operations."""

    matmul_flops_per_second: float
    bytes_per_second: float

    def floor_milliseconds(self, flops: float, num_bytes: float) -> float:
        """The roofline bound for this many operations and bytes."""
        return 1e3 * max(flops / self.matmul_flops_per_second, num_bytes / self.bytes_per_second)


def measure_ceilings(report: Report) -> Ceilings:
    """Measure a bfloat16 product of 8192 x 8192 random matrices, and a copy of 2 GiB."""
    report.title("ceilings")
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    milliseconds = median_milliseconds(lambda: torch.mm(a, b, out=out))
    flops = 2 * size**3 / milliseconds * 1e3
    report.add("ceilings", "bf16 product 8192^3", ms=milliseconds, TFLOP_per_s=flops / 1e12)
    source = torch.randn(2**29, device="cuda")
    target = torch.empty_like(source)
    milliseconds = median_milliseconds(lambda: target.copy_(source))
    rate = 2 * source.nbytes / milliseconds * 1e3
    report.add("ceilings", "copy 2 GiB", ms=milliseconds, TB_per_s=rate / 1e12)
    return Ceilings(flops, rate)
