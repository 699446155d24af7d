"""The training loop: plan, step, log, validate, save. Stopped after any step, it can resume."""

from ramengpt.errors import UserError
from ramengpt.inference.held_out_loss import bits_per_byte, validation_loss
from ramengpt.training.divergence import not_finite_in_row, not_finite_in_state
from ramengpt.training.saved_state import state_after
from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.session.interruption import InterruptedRunError, StopRequest
from ramengpt.training.step import train_step
from ramengpt.training.training_run import Rows, TrainingRun


class DivergedError(UserError):
    """The loss or a gradient is no longer a finite number."""


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


def _save(run: TrainingRun, plan: StepPlan) -> None:
    _report_and_check_finite(run, run.tracker.flush())
    with run.budget.paused():
        state = state_after(plan, run)
        found = not_finite_in_state({key: state[key] for key in ("model", "optimizers")})
        _stop_if_diverged(run, plan.step + 1, found)
        run.checkpoints.save(plan.step + 1, state)


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
        _stop_if_diverged(run, int(row["step"]), not_finite_in_row(table, row))
    run.show(rows)


def _stop_if_diverged(run: TrainingRun, step: int, not_finite: str) -> None:
    if not not_finite:
        return
    saved = run.checkpoints.steps()
    newest = str(run.checkpoints.path(saved[-1])) if saved else "none was written yet"
    raise DivergedError(
        f"step {step}: {not_finite}; training stopped; last good checkpoint: {newest}; log: "
        f"{run.tracker.directory}. Lower the learning rate, or clip gradients (gradient_clipping "
        "in params.yaml)"
    )
