"""The training loop: plan, step, log, validate, save. It can be stopped after any step and resumed."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ramengpt.errors import UserError
from ramengpt.optimizers import OptimizerSet
from ramengpt.training.checkpoint import CheckpointFolder
from ramengpt.training.clock import StepClock
from ramengpt.training.interruption import StopRequest
from ramengpt.training.schedules import StepPlan
from ramengpt.training.step import Batch, LossFunction, train_step
from ramengpt.training.tracking import Tracker
from ramengpt.training.validation import ValidationBatch, validation_loss


class DivergedError(UserError):
    """The loss or a gradient is no longer a finite number."""


class InterruptedRunError(UserError):
    """The run was asked to stop; everything is saved. `exit_status` is what the shell expects."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class TrainedModel(Protocol):
    """What the loop needs of a model."""

    def set_window(self, long_window_tokens: int) -> None:
        """Take on another attention window, in place."""

    def token_losses(self, tokens_T: Tensor, targets_T: Tensor, positions_T: Tensor) -> Tensor:
        """Float32 [T], the loss of each token."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Parameters and buffers."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take on what :meth:`state_dict` gave."""


class TrainingBatches(Protocol):
    """The micro-batches of the run, in order, and where they are in the data."""

    def __iter__(self) -> Iterator[Batch]:
        """Itself."""
        ...

    def __next__(self) -> Batch:
        """The next micro-batch, on the device."""
        ...

    @property
    def cursor(self) -> dict[str, int]:
        """Where the micro-batch after the last one that was given out starts."""
        ...


@dataclass(frozen=True)
class Intervals:
    """Steps between two events."""

    validation_steps: int
    checkpoint_steps: int


@dataclass
class TrainingRun:
    """All that a run is made of.

    Attributes:
        model: evaluated here; its parameters are updated by ``optimizers``.
        loss_function: the model's mean loss, compiled or not.
        optimizers: hold every parameter exactly once.
        plans: one a step, from step 0.
        batches: the micro-batches of ``plans[first_step:]``.
        validation_batches: gives the validation split from its start at every call.
        tracker: takes every row.
        clock: seconds of training so far.
        checkpoints: of this run alone.
        intervals: when to validate and to save.
        flops_per_token: of training, at a plan's sequence and window.
        flops_per_second: what the device can do, for MFU; None where that is unknown.
        peak_memory_gib: most memory used so far.
        learning_rates: of each group, before the schedule's multiplier.
        first_step: number of steps already done.
    """

    model: TrainedModel
    loss_function: LossFunction
    optimizers: OptimizerSet
    plans: Sequence[StepPlan]
    batches: TrainingBatches
    validation_batches: Callable[[], Iterable[ValidationBatch]]
    tracker: Tracker
    clock: StepClock
    checkpoints: CheckpointFolder
    intervals: Intervals
    flops_per_token: Callable[[StepPlan], float]
    flops_per_second: float | None
    peak_memory_gib: Callable[[], float]
    learning_rates: Mapping[str, float]
    first_step: int


def fit(run: TrainingRun, stop: StopRequest) -> None:
    """Train from ``run.first_step`` to the end of the plans.

    Args:
        run: its model, optimizers and batches are at ``first_step``.
        stop: looked at after every step.

    Raises:
        DivergedError: a loss or gradient norm is not finite; no checkpoint holds it.
        InterruptedRunError: ``stop`` was asked for; a checkpoint of the last step is written.
        CheckpointError: a checkpoint could not be written.
    """
    last_step = len(run.plans)
    window_tokens = None
    for plan in run.plans[run.first_step :]:
        if plan.window_tokens != window_tokens:
            window_tokens = plan.window_tokens
            run.model.set_window(window_tokens)
        end_of_step = run.clock.start()
        measured = train_step(run.loss_function, run.batches, run.optimizers, plan)
        step_seconds = end_of_step()
        row = measured | _planned(run, plan) | _timed(run, plan, step_seconds)
        steps_done = plan.step + 1
        _check_finite(run, run.tracker.log(steps_done, row))
        if steps_done % run.intervals.validation_steps == 0 or steps_done == last_step:
            _validate(run, plan)
        if stop:
            _save(run, steps_done)
            raise InterruptedRunError(
                f"stopped after step {steps_done} of {last_step}, all saved in "
                f"{run.checkpoints.folder}; the same command goes on from there",
                stop.exit_status,
            )
        if steps_done % run.intervals.checkpoint_steps == 0 and steps_done < last_step:
            _save(run, steps_done)


def resume(run: TrainingRun, state: dict[str, Any]) -> None:
    """Bring model, optimizers and random numbers to where a checkpoint left them.

    The tracker, the clock, the batches and ``first_step`` are built from the same state.
    """
    run.model.load_state_dict(state["model"])
    run.optimizers.load_state_dict(state["optimizers"])
    torch.set_rng_state(state["random"]["cpu"].cpu())
    if torch.cuda.is_available() and state["random"]["cuda"] is not None:
        torch.cuda.set_rng_state(state["random"]["cuda"].cpu())


def _save(run: TrainingRun, steps_done: int) -> None:
    _check_finite(run, run.tracker.flush())
    on_cuda = torch.cuda.is_initialized()
    run.checkpoints.save(
        steps_done,
        {
            "step": steps_done,
            "model": run.model.state_dict(),
            "optimizers": run.optimizers.state_dict(),
            "cursor": run.batches.cursor,
            "random": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state() if on_cuda else None,
            },
            "tracker": run.tracker.state(),
            "seconds": run.clock.seconds,
        },
    )


def _validate(run: TrainingRun, plan: StepPlan) -> None:
    _check_finite(run, run.tracker.flush())
    loss = validation_loss(run.model, run.validation_batches())
    row = {
        "tokens": plan.tokens_before + plan.tokens,
        "seconds": run.clock.seconds,
        "loss": loss,
    }
    _check_finite(run, run.tracker.log(plan.step + 1, row, table="validation"))


def _planned(run: TrainingRun, plan: StepPlan) -> dict[str, float]:
    """What the plan says about a step, as it is logged."""
    return {
        "tokens": plan.tokens_before + plan.tokens,
        "momentum": plan.momentum,
        "batch_tokens": plan.tokens,
        "sequence_tokens": plan.sequence_tokens,
        "window_tokens": plan.window_tokens,
    } | {
        f"learning_rate_{group}": rate * plan.learning_rate_multiplier
        for group, rate in run.learning_rates.items()
    }


def _timed(
    run: TrainingRun, plan: StepPlan, step_seconds: Callable[[], float]
) -> dict[str, float | Callable[[], float]]:
    """A step's times and what follows from them; functions, called in this order, once each."""
    measured: list[float] = []

    def read_clock() -> float:
        measured.append(step_seconds())
        return measured[0]

    timed: dict[str, float | Callable[[], float]] = {
        "step_seconds": read_clock,
        "seconds": lambda: run.clock.seconds,
        "tokens_per_second": lambda: plan.tokens / measured[0],
        "peak_memory_gib": run.peak_memory_gib(),
    }
    if run.flops_per_second is not None:
        share = plan.tokens * run.flops_per_token(plan) / run.flops_per_second
        timed["mfu"] = lambda: share / measured[0]
    return timed


def _check_finite(run: TrainingRun, rows: Iterable[tuple[str, Mapping[str, float]]]) -> None:
    """Stop at the first row with a loss or gradient norm that is not a finite number."""
    for table, row in rows:
        norms = {name: value for name, value in row.items() if name.startswith("gradient_norm_")}
        if all(math.isfinite(value) for value in (row["loss"], *norms.values())):
            continue
        saved = run.checkpoints.steps()
        newest = str(run.checkpoints.path(saved[-1])) if saved else "none was written yet"
        listed = ", ".join(f"{name}: {value:.4g}" for name, value in norms.items())
        raise DivergedError(
            f"step {row['step']:.0f}: the {table} loss is {row['loss']:.4g} "
            f"({listed or 'measured on held-out text'}); training stopped, nothing good was "
            f"overwritten; last good checkpoint: {newest}. Lower the learning rate, or clip "
            "gradients (gradient_clipping in params.yaml)"
        )
