"""Whether the fast path trains as plain PyTorch does: runs of each on the same batches.

    python -m benchmarks --only reference_path

fast: as in a real run on this device: compiled, FlexAttention, our kernels, bfloat16. The kernels
    for symmetric GEMMs, for which `base` is too small, are used at any size here.
reference: eager PyTorch with SDPA and none of our kernels (the first step checks that); once in
    bfloat16 and once in float32 (no TF32, Polar Express in float32 too).
other seeds: fast, from other initial weights. Their spread is the noise of a curve.

From equal weights the fast path must stay close to the float32 reference (the plain bfloat16 path
is further away, since its logits are rounded), and its curve as close to the plain bfloat16 curve
as two seeds are to each other. All follow a shortened version of the preset's schedule, with its
window changes and the split of the embedding. The batch is small enough for the reference to hold
all logits. Gradients are compared before the first step, and at the fast run's final weights, where
none is zero. Float32 is affordable at this size: its GEMMs are a tenth as fast, but take little of
the time.
"""

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from benchmarks.learnable_source import learnable_batches
from benchmarks.report import Report, relative_error
from benchmarks.training_paths import (
    FAST,
    FLOAT32,
    OTHER_SEEDS,
    PATHS,
    REFERENCE,
    OwnOperators,
    TrainingPath,
)
from ramengpt.config import Config, load_config
from ramengpt.data.batches.slices import Batch
from ramengpt.device import configure
from ramengpt.model.gpt import GPT
from ramengpt.training.network import (
    build_model,
    build_run_optimizers,
    compiled_loss,
    should_compile,
)
from ramengpt.training.schedule.plan import plan_run
from ramengpt.training.step import LossFunction, accumulate_gradients, train_step

STEPS = 200
BATCH_TOKENS = 16_384
SMOOTHING_STEPS = 20
SETTINGS = (
    "model=base",
    "schedule=base",
    "optimizer=normuon",
    f"schedules.base.micro_batch_tokens={BATCH_TOKENS}",
    f"schedules.base.scheduled_steps={STEPS}",
    "schedules.base.extension_steps=0",
    "schedules.base.batch.fractions=[0.0]",
    "schedules.base.batch.micro_batches=[1]",
)
BATCH_SEED = 0
PAIRS = ((FAST, REFERENCE), (REFERENCE, FLOAT32), (FAST, FLOAT32))

TOLERANCES = {
    "loss_difference": 0.005,
    "embedding_error": 0.03,
    "hidden_error": 0.03,
    "scalar_error": 0.05,
}
"""Largest differences of fast and the float32 reference, from equal weights on the same batch.

A bfloat16 is rounded by at most 2^-9 = 0.002 of itself, and the mean loss of many tokens is off by
far less. A gradient has passed through tens of roundings that are independent. A scalar's gradient
is a sum over all tokens and units in which most cancels.
"""


@dataclass(frozen=True)
class Gradients:
    """Mean loss of a batch and its gradient, by parameter group and in the order of the model."""

    loss: float
    of_group: dict[str, list[Tensor]]


@dataclass(frozen=True)
class Run:
    """The results of a run."""

    losses: list[float]
    first: Gradients
    last: Gradients
    last_weights: dict[str, Tensor]
    own_operators: set[str]
    """Of ours, in the first step; empty for a compiled run, which cannot be watched."""


def measure(report: Report) -> None:
    """Train by every path on the GPU and compare."""
    compare(report, SETTINGS)


def compare(
    report: Report, settings: tuple[str, ...], smoothing_steps: int = SMOOTHING_STEPS
) -> None:
    """Train by every path and report.

    Args:
        report: gets the rows.
        settings: overrides of params.yaml.
        smoothing_steps: width of the moving average over curves.

    Raises:
        ValueError: the fast path is too far from the reference.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    configure(device)
    configs = {name: path_config(path, settings) for name, path in PATHS.items()}
    config = configs[FAST]
    report.title(f"fast path against reference path, {config.model_name}, {device.type}")
    plans = plan_run(config.schedule, config.optimizer.momentum)
    batches = learnable_batches(
        len(plans),
        config.schedule.micro_batch_tokens,
        max(config.schedule.sequence.tokens),
        config.model.vocabulary,
        seed=BATCH_SEED,
        device=device,
    )
    runs: dict[str, Run] = {}
    for name, path in PATHS.items():
        seconds = -time.perf_counter()
        common_weights = runs[FAST].last_weights if runs else None
        with path.replaced():
            runs[name] = train(name, configs[name], batches, common_weights)
        seconds += time.perf_counter()
        curve = smoothed(runs[name].losses, smoothing_steps)
        losses = {"first_loss": runs[name].losses[0], "final_loss": curve[-1].item()}
        report.add("reference_path", name, **losses, seconds=seconds)
    compare_runs(report, runs, smoothing_steps)


def path_config(path: TrainingPath, settings: tuple[str, ...]) -> Config:
    """A path's overrides of params.yaml, after the common ones."""
    config = load_config([*settings, *path.overrides])
    return replace(config, seed=config.seed + path.seed_offset)


def train(
    name: str, config: Config, batches: list[Batch], common_weights: dict[str, Tensor] | None
) -> Run:
    """One run, with the gradients of its first batch before it and after it.

    Args:
        name: printed.
        config: how to train.
        batches: one per step.
        common_weights: where to take the later gradients; the run's own final weights if None.
    """
    device = batches[0].tokens_T.device
    plans = plan_run(config.schedule, config.optimizer.momentum)
    model = build_model(config, device)
    optimizers = build_run_optimizers(config, model, plans)
    loss_function = compiled_loss(config, model, device)
    model.set_window(plans[0].window_tokens)
    first = gradients(model, loss_function, batches[0])
    operators, eager = OwnOperators(), not should_compile(config, device)
    losses: list[Tensor] = []
    for plan, batch in zip(plans, batches, strict=True):
        model.set_window(plan.window_tokens)
        with operators if eager and plan.step == 0 else nullcontext():
            losses.append(train_step(loss_function, iter([[batch]]), optimizers, plan)["loss"])
        if len(losses) % 50 == 0:
            print(f"{name}: step {len(losses)}, loss {losses[-1].item():.4f}", flush=True)
    last_weights = {key: value.clone() for key, value in model.state_dict().items()}
    if common_weights is not None:
        model.load_state_dict(common_weights)
    last = gradients(model, loss_function, batches[0])
    return Run([loss.item() for loss in losses], first, last, last_weights, operators.names)


def gradients(model: GPT, loss_function: LossFunction, batch: Batch) -> Gradients:
    """The gradients of a batch; those that parameters hold are zero afterwards."""
    model.zero_grad()
    loss = accumulate_gradients(loss_function, iter([[batch]]), 1)
    of_group: dict[str, list[Tensor]] = {}
    for parameter in model.parameters():
        assert parameter.grad is not None
        of_group.setdefault(parameter.group, []).append(parameter.grad)  # type: ignore[attr-defined]
    model.zero_grad()
    return Gradients(loss.item(), of_group)


def compare_runs(report: Report, runs: dict[str, Run], smoothing_steps: int) -> None:
    """Report how the runs differ.

    Raises:
        ValueError: the fast path is too far from the reference.
    """
    faults = [
        f"{name} used {', '.join(sorted(runs[name].own_operators))}"
        for name in (REFERENCE, FLOAT32)
        if runs[name].own_operators
    ]
    for one, other in PAIRS:
        for moment in ("first", "last"):
            found, expected = getattr(runs[one], moment), getattr(runs[other], moment)
            differences = gradient_differences(found, expected)
            name = f"{moment} gradients, {one} and {other}"
            report.add("reference_path", name, **differences)
            if (one, other) == (FAST, FLOAT32):
                faults += [
                    f"{name}: {figure} {value:.3g} exceeds {TOLERANCES[figure]}"
                    for figure, value in differences.items()
                    if not value <= TOLERANCES[figure]
                ]
    strayed = {}
    for one, other in (*PAIRS, *combinations((FAST, *OTHER_SEEDS), 2)):
        strayed[one, other] = curve_difference(
            runs[one].losses, runs[other].losses, smoothing_steps
        )
        report.add(
            "reference_path",
            f"curves, {one} and {other}",
            largest_difference=strayed[one, other],
        )
    chance = max(strayed[pair] for pair in combinations((FAST, *OTHER_SEEDS), 2))
    if not strayed[FAST, REFERENCE] <= chance:
        faults.append("the fast path's curve is farther from the reference's than any two seeds'")
    if faults:
        raise ValueError("; ".join(faults))


def gradient_differences(found: Gradients, expected: Gradients) -> dict[str, float]:
    """Of the losses, absolute; of each group's gradient, relative to the expected one's norm."""
    differences = {"loss_difference": abs(found.loss - expected.loss)}
    for group, gradients_expected in expected.of_group.items():
        differences[f"{group}_error"] = relative_error(
            torch.cat([gradient.flatten() for gradient in found.of_group[group]]),
            torch.cat([gradient.flatten() for gradient in gradients_expected]),
        )
    return differences


def smoothed(losses: list[float], steps: int) -> Tensor:
    """Mean over every `steps` successive losses, float64, `steps - 1` shorter."""
    return torch.tensor(losses, dtype=torch.float64).unfold(0, steps, 1).mean(1)


def curve_difference(one: list[float], other: list[float], steps: int) -> float:
    """Largest distance between two smoothed curves; NaN if any loss is."""
    return float((smoothed(one, steps) - smoothed(other, steps)).abs().max())
