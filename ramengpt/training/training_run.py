"""The parts of a run: what the training loop works on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ramengpt.data.batches.loader import TrainingBatches, ValidationBatch
from ramengpt.model.gpt import GPT
from ramengpt.optimizers import OptimizerSet
from ramengpt.training.loss_scale import LossScale
from ramengpt.training.schedule.run_steps import BudgetClock, RunSteps
from ramengpt.training.session.checkpoint import CheckpointFolder
from ramengpt.training.step import LossFunction
from ramengpt.training.tracking.measurements import Measurements
from ramengpt.training.tracking.tracker import Tracker

Rows = Iterable[tuple[str, Mapping[str, float]]]


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
    """A run at the first of its remaining steps.

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
