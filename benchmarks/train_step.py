"""Whole training steps on synthetic documents: tokens/s, MFU, memory, and time to the first step.

Every measurement runs in its own process, so that compile caches and peak memory start clean. The
first process of a configuration has an empty compile cache (cold), the second reuses it (warm).

    python -m benchmarks.train_step --presets small --architectures ramen,plain
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.ceilings import Ceilings, measure_ceilings
from benchmarks.report import Report
from ramengpt.config import Config, load_config
from ramengpt.data.batches.slices import Batch
from ramengpt.model.gpt import GPT
from ramengpt.training.schedule.plan import StepPlan, plan_run
from ramengpt.training.step import train_step

STARTED = "RAMENGPT_BENCHMARK_STARTED"  # environment: when the parent started this process
MEDIAN_DOCUMENT_TOKENS = 400.0  # FineWeb's documents are about log-normal around this
STEPS = 20
DISTINCT_BATCHES = 4


@dataclass(frozen=True)
class Setting:
    """What one measurement trains: selectors and further values."""

    preset: str
    architecture: str
    backend: str
    optimizer: str
    overrides: tuple[str, ...]

    def name(self) -> str:
        """As the table shows it."""
        parts = (self.preset, self.architecture, self.backend, self.optimizer)
        return ", ".join((*parts, *self.overrides))

    def arguments(self) -> list[str]:
        """Of the process that measures it."""
        chosen = [
            f"model={self.preset}",
            f"schedule={self.preset}",
            f"architecture={self.architecture}",
            f"optimizer={self.optimizer}",
            f"train.attention_backend={self.backend}",
            *self.overrides,
        ]
        return [argument for value in chosen for argument in ("--set", value)]


def synthetic_batch(tokens: int, sequence_tokens: int, vocabulary: int, seed: int) -> Batch:
    """Random tokens in documents of log-normal length, cut at `sequence_tokens`."""
    generator = torch.Generator().manual_seed(seed)
    positions_T = synthetic_positions(tokens, sequence_tokens, generator)
    tokens_T = torch.randint(0, vocabulary, (tokens + 1,), generator=generator)
    first, second, third = (
        part.to(torch.int32).cuda() for part in (tokens_T[:-1], tokens_T[1:], positions_T)
    )
    return Batch(first, second, third, None)


def synthetic_positions(tokens: int, sequence_tokens: int, generator: torch.Generator) -> Tensor:
    """Offset [T] of every token in its document, for documents of log-normal length."""
    lengths = torch.exp(torch.randn(tokens, generator=generator)) * MEDIAN_DOCUMENT_TOKENS
    lengths = lengths.long().clamp(2, sequence_tokens)
    ends = lengths.cumsum(0)
    starts_T = torch.zeros(tokens, dtype=torch.bool)
    starts_T[0] = True
    starts_T[ends[ends < tokens]] = True
    order_T = torch.arange(tokens)
    return order_T - torch.where(starts_T, order_T, 0).cummax(0).values


def measure(report: Report) -> None:
    """`base` and `small` with normuon, cold and warm; then with SDPA, and with a float8 head."""
    from ramengpt.kernels.tiles import TMA_MAJORS

    compare(report, settings(["base", "small"]))
    compare(report, settings(["base"], backends=["sdpa"]), states=("cold",))
    if torch.cuda.get_device_capability()[0] in TMA_MAJORS:
        float8 = settings(["base", "small"], overrides=("train.float8_head=true",))
        compare(report, float8, states=("cold",))


def settings(
    presets: Sequence[str],
    architectures: Sequence[str] = ("ramen",),
    backends: Sequence[str] = ("flex",),
    optimizers: Sequence[str] = ("normuon",),
    overrides: tuple[str, ...] = (),
) -> list[Setting]:
    """Every combination."""
    combinations = product(presets, architectures, backends, optimizers)
    return [Setting(*chosen, overrides) for chosen in combinations]


def compare(
    report: Report, chosen: Sequence[Setting], *, states: tuple[str, ...] = ("cold", "warm")
) -> None:
    """Measure every setting, in one process for each state of the compile cache."""
    ceilings = measure_ceilings(report)
    report.title("training steps")
    for setting in chosen:
        with tempfile.TemporaryDirectory() as cache:
            for state in states:
                if report.time_left():
                    found = _child(setting, Path(cache))
                    _add(report, ceilings, f"{setting.name()}, {state} cache", found)


def _add(report: Report, ceilings: Ceilings, name: str, found: dict[str, Any]) -> None:
    rate = found.pop("flops_per_second", None)
    if rate is not None:
        found["MFU"] = rate / ceilings.matmul_flops_per_second
    report.add("train_step", name, **found)


def _child(setting: Setting, cache: Path) -> dict[str, Any]:
    environment = os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        STARTED: str(time.time()),
    }
    command = [sys.executable, "-m", "benchmarks.train_step", "--child", *setting.arguments()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stderr[-3000:], flush=True)
        return {"failed": done.stderr.strip().rsplit("\n", 1)[-1]}
    return json.loads(done.stdout.strip().rsplit("\n", 1)[-1])


def run_steps(config: Config) -> dict[str, float]:
    """Train some steps of the first plan, then some with the next window, in this process."""
    from ramengpt.device import configure
    from ramengpt.model.cost import flops_per_token
    from ramengpt.training.memory import MemoryEstimate
    from ramengpt.training.network import build_model, build_run_optimizers, compiled_loss

    device = torch.device("cuda")
    configure(device)
    plans = plan_run(config.schedule, config.optimizer.momentum)
    first = plans[0]
    model = build_model(config, device)
    optimizers = build_run_optimizers(config, model, plans)
    tokens, sequence_tokens = first.micro_batch_tokens, first.sequence_tokens
    batches = [
        synthetic_batch(tokens, sequence_tokens, config.network.vocabulary, seed)
        for seed in range(DISTINCT_BATCHES)
    ]
    step = partial(train_step, compiled_loss(config, model, device), _repeat(batches), optimizers)
    seconds, first_step_seconds = _time_steps(model, step, plans)
    median = statistics.median(seconds[1 : STEPS + 1])
    tokens_per_second = tokens / median
    flops = flops_per_token(
        config.network, sequence_tokens=sequence_tokens, window_tokens=first.window_tokens
    )
    return {
        "tokens_per_second": tokens_per_second,
        "step_ms": 1e3 * median,
        "flops_per_second": tokens_per_second * flops,
        "peak_GiB": torch.cuda.max_memory_allocated() / 2**30,
        "estimated_GiB": MemoryEstimate.of(config, model.compute_dtype).training_bytes(tokens)
        / 2**30,
        "first_step_seconds": first_step_seconds,
        "next_window_over_median": max(seconds[STEPS + 1 :]) / median,
    }


def _time_steps(
    model: GPT, step: Callable[[StepPlan], dict[str, Tensor]], plans: Sequence[StepPlan]
) -> tuple[list[float], float]:
    """Seconds per micro-batch of each step, and from process start to the end of the first step.

    Synchronises after every step, which a run does not: a few tenths of a millisecond each.
    """
    first = plans[0]
    later = next((plan for plan in plans if plan.window_tokens != first.window_tokens), first)
    seconds: list[float] = []
    first_step_seconds = 0.0
    for plan in [first] * (STEPS + 1) + [later] * 5:
        started = time.perf_counter()
        model.set_window(plan.window_tokens)
        model.set_extra_loss_weights(plan.further_token_weights, plan.prefix_weight)
        figures = step(plan)
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - started) / plan.micro_batches)
        if len(seconds) == 1:
            first_step_seconds = time.time() - float(os.environ.get(STARTED, time.time()))
    if not torch.isfinite(figures["loss"]):
        raise ValueError("benchmarks: the loss is not finite")
    return seconds, first_step_seconds


def _repeat(batches: list[Batch]) -> Iterator[list[Batch]]:
    while True:
        yield from ([batch] for batch in batches)


def main() -> None:
    """Compare what was asked for; as a child, run one configuration and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__)
    parser.add_argument("--presets", default="base,small")
    parser.add_argument("--architectures", default="ramen")
    parser.add_argument("--backends", default="flex")
    parser.add_argument("--optimizers", default="normuon")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seconds", type=float, default=600, help="begin nothing after this long")
    parser.add_argument("--json", type=Path, default=Path("results/benchmarks/train_step.json"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run_steps(load_config(arguments.set))))
        return
    report = Report(arguments.seconds)
    chosen = settings(
        arguments.presets.split(","),
        arguments.architectures.split(","),
        arguments.backends.split(","),
        arguments.optimizers.split(","),
        tuple(arguments.set),
    )
    compare(report, chosen)
    report.write(arguments.json)


if __name__ == "__main__":
    main()
