"""One step of every optimizer on a preset's parameters: time, and share of a training step.

    python -m benchmarks.optimizer_step --preset small --training_step_ms 450

Gradients are noise, all groups are stepped, and the embedding is split, which costs most. Work that
some rules do only every few steps is averaged over them. On a CPU it runs eagerly and takes long
for anything but the preset `instant`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.report import Report, median_milliseconds
from ramengpt.config import load_config
from ramengpt.model.gpt import GPT
from ramengpt.optimizers import OptimizerSet
from ramengpt.training.network import build_model, build_run_optimizers
from ramengpt.training.schedule.plan import StepPlan, plan_run

OPTIMIZERS = ("normuon", "muon", "bam", "aro", "adam")
"""Those that have been studied."""
MEASURED = (
    *OPTIMIZERS,
    "adamw",
    "muon_jordan",
    "muon_eq_r",
    "ademamix",
    "soap",
    "soap_muon",
    "muon_hyperball",
    "adam_hyperball",
)
"""All entries of params.yaml."""
STEP_TOKENS = 262_144
"""Tokens of the training step that the share refers to."""


def measure(report: Report) -> None:
    """All optimizers on `small`; the share follows from this report's training steps, if any."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measure_preset(report, "small", MEASURED, device, training_step_ms(report, "small"))


def training_step_ms(report: Report, preset: str) -> float | None:
    """Time of a step of STEP_TOKENS, from the fastest training row of the preset."""
    rates = [
        row["tokens_per_second"]
        for row in report.rows
        if row["part"] == "train_step"
        and row["name"].startswith(f"{preset},")
        and "tokens_per_second" in row
    ]
    return 1e3 * STEP_TOKENS / max(rates) if rates else None


def measure_preset(
    report: Report,
    preset: str,
    optimizers: tuple[str, ...],
    device: torch.device,
    step_ms: float | None,
    *,
    settings: tuple[str, ...] = (),
) -> None:
    """Measure some optimizers on the parameters of one preset, under further settings."""
    report.title(f"optimizer steps on {preset}, {device.type}")
    for name in optimizers:
        if not report.time_left():
            return
        started = time.perf_counter()
        model, built, plan, cycle = build(preset, name, device, settings)
        built.clip_gradients(plan)
        built.step(plan)
        first_seconds = time.perf_counter() - started
        hidden = [
            param_group for param_group in built.param_groups if param_group.group == "hidden"
        ]

        def hidden_steps(groups: list = hidden, plan: StepPlan = plan, steps: int = cycle) -> None:
            with torch.no_grad():
                for _ in range(steps):
                    for group in groups:
                        group.step(plan)

        def whole_steps(
            built: OptimizerSet = built, plan: StepPlan = plan, steps: int = cycle
        ) -> None:
            for _ in range(steps):
                built.clip_gradients(plan)
                built.step(plan)

        def clip(built: OptimizerSet = built, plan: StepPlan = plan) -> None:
            built.clip_gradients(plan)

        whole_ms = median_ms(whole_steps, device) / cycle
        report.add(
            "optimizer_step",
            f"{preset}, {name}",
            step_ms=whole_ms,
            hidden_ms=median_ms(hidden_steps, device) / cycle,
            clip_ms=median_ms(clip, device),
            share_of_training_step=whole_ms / step_ms if step_ms else None,
            share_of_twice_the_tokens=whole_ms / (2 * step_ms) if step_ms else None,
            state_mib=sum(tensor.nbytes for group in hidden for tensor in group.state.values())
            / 2**20,
            hidden_parameters=sum(param_group.stack.weight().numel() for param_group in hidden),
            first_step_seconds=first_seconds,
        )
        del model, built


def build(
    preset: str, optimizer: str, device: torch.device, settings: tuple[str, ...]
) -> tuple[GPT, OptimizerSet, StepPlan, int]:
    """A model with random gradients, its optimizers, the last plan of its schedule, and a cycle.

    The cycle is the number of steps after which the optimizer repeats what it does.
    """
    selected = [f"model={preset}", f"optimizer={optimizer}", f"schedule={preset}"]
    config = load_config([*selected, *settings])
    plans = plan_run(config.schedule, config.optimizer.momentum, 1)
    model = build_model(config, device)
    built = build_run_optimizers(config, model, plans[-1:])
    for parameter in model.parameters():
        parameter.grad = 1e-3 * torch.randn_like(parameter)
    basis = getattr(config.optimizer, "basis", None)
    return model, built, plans[-1], basis.every_steps if basis else 1


def median_ms(function: Callable[[], object], device: torch.device) -> float:
    """Median time of a call: by CUDA events, or by the clock."""
    if device.type == "cuda":
        return median_milliseconds(function)
    milliseconds = []
    for _ in range(5):
        started = time.perf_counter()
        function()
        milliseconds.append(1e3 * (time.perf_counter() - started))
    return statistics.median(milliseconds)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.optimizer_step", description=__doc__
    )
    parser.add_argument("--preset", default="small", help="a model and a schedule of params.yaml")
    parser.add_argument("--optimizers", default=",".join(MEASURED), help="by commas")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--training_step_ms", type=float, help="to give each time as a share of it")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seconds", type=float, default=600, help="begin nothing after this long")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    arguments = parser.parse_args()
    report = Report(arguments.seconds)
    measure_preset(
        report,
        arguments.preset,
        tuple(arguments.optimizers.split(",")),
        torch.device(arguments.device),
        arguments.training_step_ms,
        settings=tuple(arguments.set),
    )
    if arguments.json:
        report.write(arguments.json)


if __name__ == "__main__":
    main()
