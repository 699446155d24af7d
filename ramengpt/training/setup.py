"""Build what `loop.fit` trains: from params.yaml, checked data and the newest checkpoint."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch

from ramengpt.config import Config
from ramengpt.data.batches.batcher import START, BatchRequest, Cursor
from ramengpt.data.batches.loader import TrainingBatches, ValidationBatch, validation_batches
from ramengpt.data.batches.validation_stream import ValidationStream
from ramengpt.data.text.tokenizer import token_byte_lengths
from ramengpt.device import configure, profile
from ramengpt.model.cost import flops_per_token
from ramengpt.model.gpt import GPT
from ramengpt.optimizers import OptimizerSet
from ramengpt.progress import say
from ramengpt.training.loop import Rows, TrainingRun, Validation, restore
from ramengpt.training.loss_scale import LossScale
from ramengpt.training.micro_batch import choose_slice_tokens, slices_line
from ramengpt.training.network import build_model, build_run_optimizers, compiled_loss
from ramengpt.training.run_data import Data, reading_order
from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.schedule.plan_table import write_plan
from ramengpt.training.schedule.run_steps import BudgetClock, steps_of_run
from ramengpt.training.session.checkpoint import CheckpointFolder
from ramengpt.training.session.environment import compute_environment, resumed_environments
from ramengpt.training.session.folders import RunFolders
from ramengpt.training.session.outputs import withdraw_outputs
from ramengpt.training.session.settings import RunOptions
from ramengpt.training.tracking import Tracker
from ramengpt.training.tracking.clock import StepClock
from ramengpt.training.tracking.measurements import Measurements, matmul_flops_per_second


@contextmanager
def prepared_run(
    config: Config,
    device: torch.device,
    plans: Sequence[StepPlan],
    data: Data,
    checkpoints: CheckpointFolder,
    *,
    options: RunOptions,
    name: str,
    record: Mapping[str, Any],
    folders: RunFolders,
    show: Callable[[Rows], None],
) -> Iterator[TrainingRun]:
    """Build a run at its start, or at its newest checkpoint.

    Args:
        config: the selected values.
        device: where it trains.
        plans: one per step of the whole run.
        data: the checked shards.
        checkpoints: of this run only.
        options: from the command line and the environment.
        name: of the run, shown with its numbers.
        record: the run's settings, shown by wandb.
        folders: where the run writes; an earlier run's outputs there are withdrawn now.
        show: called with the logged rows.

    Yields:
        The run; leaving the block stops the thread that loads batches and closes the tracker.
    """
    configure(device)
    model = build_model(config, device)
    optimizers = build_run_optimizers(config, model, plans)
    slice_tokens = _slice_tokens(config, model, device, options.slice_sequences)
    state = _resume(checkpoints, model, optimizers)
    environment = compute_environment(
        device, slice_tokens, recompute_activations=config.train.recompute_activations
    )
    environments, exactness = resumed_environments(state["environments"], environment)
    if exactness:
        path = checkpoints.path(state["step"])
        say(f"resuming after step {state['step']}, from {path}: {exactness}")
    budget = BudgetClock(state["budget_seconds"], time.monotonic)
    steps = steps_of_run(plans, options.stop_rules, budget, state)
    withdraw_outputs(folders)
    write_plan(plans, folders.results / "plan.csv")
    clock = StepClock(device, state["seconds"])
    tracker = Tracker(
        folders.results,
        config.tracking,
        name,
        record,
        wandb_directory=folders.wandb,
        state=state["tracker"],
    )
    with (
        closing(tracker),
        TrainingBatches(
            data.train,
            reading_order(config),
            Cursor.from_json(state["cursor"]),
            _requests(steps.ahead()),
            device,
            capacity_tokens=max(plan.micro_batch_tokens for plan in plans),
            slice_tokens=slice_tokens,
        ) as batches,
    ):
        yield TrainingRun(
            model=model,
            loss_function=compiled_loss(config, model, device),
            optimizers=optimizers,
            steps=steps,
            budget=budget,
            stop_at_loss=options.stop_rules.at_loss,
            loss_scale=_loss_scale(model, state["loss_scale"]),
            batches=batches,
            validation=_validation(config, slice_tokens, data.validation, model, device),
            measurements=_measurements(config, model, clock, device),
            tracker=tracker,
            show=show,
            checkpoints=checkpoints,
            checkpoint_every_steps=config.train.checkpoint_every_steps,
            environments=environments,
        )


def _slice_tokens(
    config: Config, model: GPT, device: torch.device, slice_sequences: int | None
) -> int:
    """How many tokens pass through the network at once; said where it is not a micro-batch."""
    device_profile = profile(device)
    tokens = choose_slice_tokens(config, device_profile, model.compute_dtype, slice_sequences)
    if line := slices_line(config, tokens, device_profile):
        say(line)
    return tokens


def _resume(
    checkpoints: CheckpointFolder, model: GPT, optimizers: OptimizerSet
) -> Mapping[str, Any]:
    """Restore model, optimizers and random state from the newest checkpoint, if there is one.

    Returns:
        `step`, `tokens`, `seconds`, `budget_seconds`, `cursor`, `tracker`, `environments` and
        `loss_scale` for the rest of the set-up.
    """
    state, skipped = checkpoints.load_newest()
    for line in skipped:
        say(line)
    if state is None:
        return {
            "step": 0,
            "tokens": 0,
            "seconds": 0.0,
            "budget_seconds": 0.0,
            "cursor": START.to_json(),
            "tracker": None,
            "environments": [],
            "loss_scale": None,
        }
    restore(model, optimizers, state)
    return state


def _loss_scale(model: GPT, saved: Mapping[str, Any] | None) -> LossScale | None:
    """The scale that float16 needs, at its start or as a checkpoint has it."""
    if model.compute_dtype != torch.float16:
        return None
    loss_scale = LossScale()
    if saved is not None:
        loss_scale.load_state_dict(saved)
    return loss_scale


def _requests(steps: Iterable[StepPlan]) -> Iterator[BatchRequest]:
    """Every micro-batch of some steps, drawn as they are."""
    for plan in steps:
        for _ in range(plan.micro_batches):
            yield BatchRequest(plan.micro_batch_tokens, plan.sequence_tokens)


def _validation(
    config: Config, slice_tokens: int, stream: ValidationStream, model: GPT, device: torch.device
) -> Validation:
    request = BatchRequest(slice_tokens, model.max_sequence_tokens)

    def batches() -> Iterator[ValidationBatch]:
        return validation_batches(stream, request, device)

    return Validation(
        batches,
        slice_tokens,
        config.schedule.window.validation_tokens,
        config.validation.every_steps,
        stream.text_bytes(token_byte_lengths()),
    )


def _measurements(
    config: Config, model: GPT, clock: StepClock, device: torch.device
) -> Measurements:
    def flops(plan: StepPlan) -> float:
        return flops_per_token(
            config.network,
            sequence_tokens=plan.sequence_tokens,
            window_tokens=plan.window_tokens,
        )

    return Measurements(
        clock=clock,
        device=device,
        learning_rates={
            "embedding": config.embedding_adam.learning_rate,
            "hidden": config.optimizer.learning_rate,
            "scalar": config.scalar_adam.learning_rate,
        },
        flops_per_token=flops,
        flops_per_second=matmul_flops_per_second(device, model.compute_dtype),
    )
