"""The training loop: plan, step, log, validate, save. Stopped after any step, it can resume."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ramengpt.data.batches.loader import TrainingBatches, ValidationBatch
from ramengpt.errors import UserError
from ramengpt.inference.held_out_loss import bits_per_byte, validation_loss
from ramengpt.model.gpt import GPT
from ramengpt.optimizers import OptimizerSet
from ramengpt.training.loss_scale import LossScale
from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.schedule.run_steps import BudgetClock, RunSteps
from ramengpt.training.session.checkpoint import CheckpointFolder
from ramengpt.training.session.interruption import StopRequest
from ramengpt.training.step import LossFunction, train_step
from ramengpt.training.tracking import Tracker
from ramengpt.training.tracking.measurements import Measurements

Rows = Iterable[tuple[str, Mapping[str, float]]]


class DivergedError(UserError):
    """The loss or a gradient is no longer a finite number."""


class InterruptedRunError(UserError):
    """The run was asked to stop. `exit_status` is what the shell expects."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@dataclass(frozen=True)
class Validation:
    """How held-out loss is measured.

    Attributes:
        batches: each call starts again at the first batch of the validation split.
        micro_batch_tokens: of those batches.
        window_tokens: attention window.
        every_steps: between two measurements; the last step is measured too.
        text_bytes: of the text that those batches hold.
    """

    batches: Callable[[], Iterable[ValidationBatch]]
    micro_batch_tokens: int
    window_tokens: int
    every_steps: int
    text_bytes: int


@dataclass
class TrainingRun:
    """Everything that :func:`fit` needs.

    Attributes:
        model: ``optimizers`` hold each of its parameters exactly once.
        loss_function: the model's mean loss, compiled or not.
        optimizers: update the model's parameters.
        steps: the remaining ones, at least one.
        budget: counts the seconds of training, from the end of the first step, which compiles.
        stop_at_loss: the first validation at or below it ends the run; None: none does.
        loss_scale: of a run in float16.
        batches: the micro-batches of those steps.
        validation: how the same model is evaluated.
        measurements: what is logged besides the loss.
        tracker: logs every row.
        show: called with (table, row) pairs once their values are known.
        checkpoints: of this run only.
        checkpoint_every_steps: 0 writes no checkpoint.
        environments: where the run has computed so far, kept in its checkpoints.
    """

    model: GPT
    loss_function: LossFunction
    optimizers: OptimizerSet
    steps: RunSteps
    budget: BudgetClock
    stop_at_loss: float | None
    loss_scale: LossScale | None
    batches: TrainingBatches
    validation: Validation
    measurements: Measurements
    tracker: Tracker
    show: Callable[[Rows], None]
    checkpoints: CheckpointFolder
    checkpoint_every_steps: int
    environments: Sequence[Mapping[str, str | int]]


def fit(run: TrainingRun, stop: StopRequest) -> bool:
    """Train to the end of the steps, or to the loss that ends the run.

    Args:
        run: its model, optimizers and batches stand at the first of its steps.
        stop: checked after every step but the last.

    Returns:
        Whether the loss was reached.

    Raises:
        DivergedError: a loss or gradient norm is not finite; no checkpoint holds it.
        InterruptedRunError: a stop was requested; the last step is saved in a checkpoint, unless
            checkpoints are off.
        CheckpointError: a checkpoint could not be written.
    """
    reached = False
    for plan in run.steps:
        # Both write to buffers in place, so a new value does not recompile the model.
        run.model.set_window(plan.window_tokens)
        run.model.set_extra_loss_weights(plan.further_token_weights, plan.prefix_weight)
        end_of_step = run.measurements.clock.start()
        measured = train_step(run.loss_function, run.batches, run.optimizers, plan, run.loss_scale)
        row = measured | run.measurements.of_step(plan, end_of_step())
        run.budget.run()
        steps_done = plan.step + 1
        # On CUDA these are rows of earlier steps, so a divergence shows late; _save waits for all
        # rows, so that no checkpoint is later than it.
        _report_and_check_finite(run, run.tracker.log(steps_done, row))
        is_last = run.steps.is_last(plan)
        if is_last or steps_done % run.validation.every_steps == 0:
            loss = _validate(run, plan)
            reached = run.stop_at_loss is not None and loss <= run.stop_at_loss
        if is_last or reached:
            break
        if _checkpoint_is_due(run, steps_done, stop):
            _save(run, plan)
        if stop:
            raise _interrupted(run, f"stopped after {run.steps.position(plan)}", stop)
    _report_and_check_finite(run, run.tracker.flush())
    return reached


def _checkpoint_is_due(run: TrainingRun, steps_done: int, stop: StopRequest) -> bool:
    every = run.checkpoint_every_steps
    return every > 0 and (bool(stop) or steps_done % every == 0)


def _interrupted(run: TrainingRun, stopped: str, stop: StopRequest) -> InterruptedRunError:
    saved = f"all saved in {run.checkpoints.folder}; the same command resumes from there"
    if run.checkpoint_every_steps == 0:
        saved = "nothing is saved, since train.checkpoint_every_steps is 0"
    return InterruptedRunError(f"{stopped}, {saved}", stop.exit_status)


def restore(model: GPT, optimizers: OptimizerSet, state: Mapping[str, Any]) -> None:
    """Restore model, optimizers and random state from a checkpoint.

    The tracker, the clock, the plans and the batches are built from the same state.
    """
    model.load_state_dict(state["model"])
    optimizers.load_state_dict(state["optimizers"])
    torch.set_rng_state(state["random"]["cpu"].cpu())
    if state["random"]["cuda"] is not None:
        torch.cuda.set_rng_state(state["random"]["cuda"].cpu())


def _save(run: TrainingRun, plan: StepPlan) -> None:
    _report_and_check_finite(run, run.tracker.flush())
    with run.budget.paused():
        state = _state(run, plan)
        _check_state_is_finite(run, state)
        run.checkpoints.save(plan.step + 1, state)


def _state(run: TrainingRun, plan: StepPlan) -> dict[str, Any]:
    """All that decides what follows a step."""
    on_cuda = torch.cuda.is_initialized()
    return {
        "step": plan.step + 1,
        "tokens": plan.tokens_before + plan.tokens,
        "budget_seconds": run.budget.seconds,
        "model": run.model.state_dict(),
        "optimizers": run.optimizers.state_dict(),
        "cursor": run.batches.cursor,
        "random": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if on_cuda else None,
        },
        "tracker": run.tracker.state(),
        "seconds": run.measurements.clock.seconds,
        "loss_scale": run.loss_scale.state_dict() if run.loss_scale else None,
        "environments": [dict(environment) for environment in run.environments],
    }


def _check_state_is_finite(run: TrainingRun, state: Mapping[str, Any]) -> None:
    """Loss and norms are computed before the update, which may overflow although they do not."""
    tensors = dict(_tensors({key: state[key] for key in ("model", "optimizers")}))
    finite = [tensor.isfinite().all() for tensor in tensors.values()]
    if finite and not bool(torch.stack([each.to(finite[0].device) for each in finite]).all()):
        name = next(name for name, each in zip(tensors, finite, strict=True) if not bool(each))
        raise DivergedError(
            f"step {state['step']}: {name} holds a value that is not finite; training stopped; "
            f"{_where_to_resume(run)}"
        )


def _tensors(state: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Floating-point tensors of a nested state, each with its path."""
    if isinstance(state, torch.Tensor) and state.is_floating_point():
        yield path, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(value, f"{path}.{key}" if path else str(key))
    elif isinstance(state, list | tuple):
        for number, value in enumerate(state):
            yield from _tensors(value, f"{path}.{number}")


def _validate(run: TrainingRun, plan: StepPlan) -> float:
    """Log the held-out loss; return it."""
    _report_and_check_finite(run, run.tracker.flush())
    window_tokens = run.validation.window_tokens
    with (
        run.budget.paused(),
        run.optimizers.evaluation_weights(),
        run.model.temporary_window(window_tokens),
    ):
        found = validation_loss(run.model, run.validation.batches())
    row = run.measurements.of_validation(plan) | {"loss": found.loss}
    if run.validation.text_bytes:
        row["bits_per_byte"] = bits_per_byte(found.text_nats, run.validation.text_bytes)
    _report_and_check_finite(run, run.tracker.log(plan.step + 1, row, table="validation"))
    return found.loss


def _report_and_check_finite(run: TrainingRun, rows: Rows) -> None:
    """Show the new rows; stop at one whose loss or norm is not finite."""
    for table, row in rows:
        norms = {name: value for name, value in row.items() if name.startswith("gradient_norm_")}
        if not all(math.isfinite(value) for value in (row["loss"], *norms.values())):
            raise _diverged(run, table, row, norms)
    run.show(rows)


def _diverged(
    run: TrainingRun, table: str, row: Mapping[str, float], norms: Mapping[str, float]
) -> DivergedError:
    listed = ", ".join(f"{name}: {value:.4g}" for name, value in norms.items())
    return DivergedError(
        f"step {row['step']:.0f}: the {table} loss is {row['loss']:.4g} "
        f"({listed or 'measured on held-out text'}); training stopped; {_where_to_resume(run)}"
    )


def _where_to_resume(run: TrainingRun) -> str:
    saved = run.checkpoints.steps()
    newest = str(run.checkpoints.path(saved[-1])) if saved else "none was written yet"
    return (
        f"last good checkpoint: {newest}; log: {run.tracker.directory}. Lower the learning rate, "
        "or clip gradients (gradient_clipping in params.yaml)"
    )
