"""One step of every optimizer on a preset's parameters: time, and share of a training step.

    python -m benchmarks.optimizer_step --preset small

Measures a training step first, in a process of its own, or takes --tokens_per_second. Gradients are
noise, all groups are stepped, and the embedding is split, which costs most. Work that some rules do
only every few steps is averaged over them; eigenvectors, which SOAP takes once, in the first step,
are left out. On a CPU it runs eagerly and takes long for anything but the preset `instant`.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.report import Report, median_milliseconds
from benchmarks.train_step import compare, settings
from ramengpt.config import Config, load_config
from ramengpt.device import configure
from ramengpt.model.gpt import GPT
from ramengpt.training.network import build_model, build_run_optimizers
from ramengpt.training.schedule.plan import plan_run

MEASURED = (
    "normuon",
    "muon",
    "bam",
    "aro",
    "adam",
    "adamw",
    "muon_jordan",
    "muon_eq_r",
    "ademamix",
    "soap",
    "soap_muon",
    "muon_hyperball",
    "adam_hyperball",
    "lite",
)
"""All entries of params.yaml."""
VARIANTS = (
    ("normuon", ("parameters.attention.query_key_block_heads=2",)),
    ("muon_eq_r", ("parameters.attention.query_key_block_heads=2",)),
    ("soap_muon", ("bases.covariances.every_steps=1",)),
)
"""Optimizers under other values, measured too."""
STEP_TOKENS = 262_144
"""Tokens of the training step that the share refers to; the other share is of twice as many."""


@dataclass(frozen=True)
class Case:
    """An optimizer and further values of params.yaml."""

    optimizer: str
    settings: tuple[str, ...] = ()

    def name(self) -> str:
        """As the table shows it: the optimizer, and each value by its last key."""
        return ", ".join([self.optimizer, *(text.split(".")[-1] for text in self.settings)])


def all_cases(optimizers: Sequence[str]) -> list[Case]:
    """Each optimizer as it is, and its variants."""
    return [
        case
        for optimizer in optimizers
        for case in (Case(optimizer), *(Case(*each) for each in VARIANTS if each[0] == optimizer))
    ]


def measure(report: Report) -> None:
    """All optimizers on `small`; the share follows from this report's training steps."""
    measure_preset(report, "small", all_cases(MEASURED), torch.device("cuda"))


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
    report: Report, preset: str, cases: Sequence[Case], device: torch.device
) -> None:
    """Measure optimizers on the parameters of one preset."""
    configure(device)
    report.title(f"optimizer steps on {preset}, {device.type}")
    step_ms = training_step_ms(report, preset)
    model = model_with_gradients(config_of(preset, cases[0]), device)
    for case in cases:
        if report.time_left():
            config = config_of(preset, case)
            report.add(
                "optimizer_step",
                f"{preset}, {case.name()}",
                **measured(config, model, device, step_ms),
            )


def config_of(preset: str, case: Case) -> Config:
    """The preset's parameters, updated by the case's optimizer."""
    chosen = (f"model={preset}", f"optimizer={case.optimizer}", f"schedule={preset}")
    return load_config([*chosen, *case.settings])


def model_with_gradients(config: Config, device: torch.device) -> GPT:
    """A model whose gradients are noise."""
    torch.manual_seed(config.seed)
    model = build_model(config, device)
    for parameter in model.parameters():
        parameter.grad = 1e-3 * torch.randn_like(parameter)
    return model


def measured(
    config: Config, model: GPT, device: torch.device, step_ms: float | None
) -> dict[str, float | None]:
    """Times of one optimizer's steps with everything split, averaged over what it repeats.

    Steps with clipping, which are all that follows the backward pass, and the share of the hidden
    matrices.
    """
    plans = plan_run(config.schedule, config.optimizer.momentum)[-1:]
    built, plan = build_run_optimizers(config, model, plans), plans[0]
    hidden = [group for group in built.param_groups if group.group == "hidden"]
    for group in hidden:
        group.updates = 1  # past the step that takes eigenvectors
    started = time.perf_counter()
    built.clip_gradients(plan)
    built.step(plan)
    first_seconds = time.perf_counter() - started
    basis = getattr(config.optimizer, "basis", None)
    cycle_steps = basis.every_steps if basis else 1

    @torch.no_grad()
    def hidden_steps() -> None:
        for _ in range(cycle_steps):
            for group in hidden:
                group.step(plan)

    @torch.no_grad()
    def other_steps() -> None:
        built.clip_gradients(plan)
        for group in built.param_groups:
            if group.group != "hidden":
                group.step(plan)

    hidden_ms = median_ms(hidden_steps, device) / cycle_steps
    whole_ms = hidden_ms + median_ms(other_steps, device)
    return {
        "step_ms": whole_ms,
        "hidden_ms": hidden_ms,
        "share_of_training_step": whole_ms / step_ms if step_ms else None,
        "share_of_twice_the_tokens": whole_ms / (2 * step_ms) if step_ms else None,
        "state_mib": sum(t.nbytes for group in hidden for t in group.state.values()) / 2**20,
        "hidden_parameters": sum(group.stack.weight().numel() for group in hidden),
        "first_step_seconds": first_seconds,
    }


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
    parser.add_argument("--tokens_per_second", type=float, help="in training, if it is known")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all")
    parser.add_argument("--seconds", type=float, default=600, help="begin nothing after this long")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    arguments = parser.parse_args()
    report = Report(arguments.seconds)
    device, preset = torch.device(arguments.device), arguments.preset
    if arguments.tokens_per_second:
        report.add("train_step", f"{preset}, given", tokens_per_second=arguments.tokens_per_second)
    elif device.type == "cuda":
        compare(report, settings([preset]), states=("cold",))
    further = tuple(arguments.set)
    cases = all_cases(arguments.optimizers.split(","))
    cases = [Case(case.optimizer, case.settings + further) for case in cases]
    measure_preset(report, preset, cases, device)
    if arguments.json:
        report.write(arguments.json)


if __name__ == "__main__":
    main()
