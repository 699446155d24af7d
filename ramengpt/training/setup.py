"""Build what `loop.fit` trains: from params.yaml, checked data and the newest checkpoint."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ramengpt.config import Config
from ramengpt.data.batches.batcher import BatchRequest, Cursor
from ramengpt.data.batches.loader import TrainingBatches, ValidationBatch, validation_batches
from ramengpt.data.batches.validation_stream import ValidationStream
from ramengpt.data.text.tokenizer import token_byte_lengths
from ramengpt.device import configure, profile
from ramengpt.model.cost import flops_per_token
from ramengpt.model.gpt import GPT
from ramengpt.progress import say
from ramengpt.source_code import stage_code
from ramengpt.training.loss_scale import LossScale
from ramengpt.training.micro_batch import choose_slice_tokens, slices_line
from ramengpt.training.network import build_model, build_run_optimizers, compiled_loss
from ramengpt.training.run_data import Data, data_files, open_data, reading_order
from ramengpt.training.saved_state import resume
from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.schedule.plan_table import write_plan
from ramengpt.training.schedule.run_steps import BudgetClock, RunSteps, steps_of_run
from ramengpt.training.session.checkpoint import CheckpointFolder
from ramengpt.training.session.environment import (
    Environment,
    compute_environment,
    resumed_environments,
)
from ramengpt.training.session.folders import RunFolders
from ramengpt.training.session.inputs import RunInputs, run_inputs
from ramengpt.training.session.outputs import withdraw_outputs
from ramengpt.training.session.settings import RunOptions, plans_of
from ramengpt.training.tracking.clock import StepClock
from ramengpt.training.tracking.measurements import Measurements, matmul_flops_per_second
from ramengpt.training.tracking.tracker import Tracker
from ramengpt.training.training_run import Rows, TrainingRun, Validation


@dataclass(frozen=True)
class RunSpec:
    """What is known of a run before it has a device.

    Attributes:
        config: the selected values.
        options: from the command line and the environment.
        folders: where it writes.
        data: the checked shards.
        inputs: all that its result follows from.
        plans: one per step of the whole run.
        checkpoints: of this run only.
    """

    config: Config
    options: RunOptions
    folders: RunFolders
    data: Data
    inputs: RunInputs
    plans: tuple[StepPlan, ...]
    checkpoints: CheckpointFolder

    @property
    def record(self) -> dict[str, Any]:
        """What wandb and the weights' config say of the run."""
        places = {"data_path": self.data.data_path, "slice_sequences": self.options.slice_sequences}
        return self.inputs.settings | places


def specify_run(config: Config, options: RunOptions, folders: RunFolders) -> RunSpec:
    """Open the data and the checkpoints of a run.

    Raises:
        UserError: the data differs from what was verified.
        OSError: the folder of checkpoints cannot be made.
    """
    data = open_data(config)
    inputs = inputs_now(config, options)
    folder = folders.checkpoints / inputs.fingerprint()
    checkpoints = CheckpointFolder(folder, config.train.checkpoints_kept)
    plans = plans_of(config, options)
    return RunSpec(config, options, folders, data, inputs, plans, checkpoints)


def inputs_now(config: Config, options: RunOptions) -> RunInputs:
    """What the result of such a run follows from, as it is at this moment."""
    return run_inputs(config, options, stage_code("train", config.optimizer.rule), data_files())


@contextmanager
def prepared_run(
    spec: RunSpec, device: torch.device, show: Callable[[Rows], None]
) -> Iterator[TrainingRun]:
    """Build a run at its start, or at its newest checkpoint.

    Outputs of an earlier run are withdrawn once nothing can refuse this one.

    Args:
        spec: what is trained.
        device: where it trains.
        show: called with the logged rows.

    Yields:
        The run; leaving the block stops the thread that loads batches and closes the tracker.
    """
    config = spec.config
    configure(device)
    model = build_model(config, device)
    optimizers = build_run_optimizers(config, model, spec.plans)
    slice_tokens = _slice_tokens(spec, model, device)
    state = resume(spec.checkpoints, model, optimizers)
    environments = _environments(spec, device, slice_tokens, state)
    budget = BudgetClock(state["budget_seconds"], time.monotonic)
    steps = steps_of_run(spec.plans, spec.options.stop_rules, budget, state)
    withdraw_outputs(spec.folders)
    write_plan(spec.plans, spec.folders.results / "plan.csv")
    with (
        closing(_tracker(spec, state["tracker"])) as tracker,
        _batches(spec, steps, state["cursor"], device, slice_tokens) as batches,
    ):
        yield TrainingRun(
            model=model,
            loss_function=compiled_loss(config, model, device),
            optimizers=optimizers,
            steps=steps,
            budget=budget,
            stop_at_loss=spec.options.stop_rules.at_loss,
            loss_scale=_loss_scale(model, state["loss_scale"]),
            batches=batches,
            validation=_validation(config, slice_tokens, spec.data.validation, model, device),
            measurements=_measurements(config, model, StepClock(device, state["seconds"]), device),
            tracker=tracker,
            show=show,
            checkpoints=spec.checkpoints,
            checkpoint_every_steps=config.train.checkpoint_every_steps,
            environments=environments,
        )


def _slice_tokens(spec: RunSpec, model: GPT, device: torch.device) -> int:
    """How many tokens pass through the network at once; said where it is not a micro-batch."""
    device_profile = profile(device)
    tokens = choose_slice_tokens(
        spec.config, device_profile, model.compute_dtype, spec.options.slice_sequences
    )
    if line := slices_line(spec.config, tokens, device_profile):
        say(line)
    return tokens


def _environments(
    spec: RunSpec, device: torch.device, slice_tokens: int, state: Mapping[str, Any]
) -> list[Environment]:
    """Where the run has computed so far, this process included; says how exactly it resumes."""
    recomputes = spec.config.train.recompute_activations
    environment = compute_environment(device, slice_tokens, recompute_activations=recomputes)
    environments, exactness = resumed_environments(state["environments"], environment)
    if exactness:
        path = spec.checkpoints.path(state["step"])
        say(f"resuming after step {state['step']}, from {path}: {exactness}")
    return environments


def _tracker(spec: RunSpec, state: Mapping[str, str]) -> Tracker:
    return Tracker(
        spec.folders.results,
        spec.config.tracking,
        spec.inputs.name(),
        spec.record,
        wandb_directory=spec.folders.wandb,
        state=state,
    )


def _batches(
    spec: RunSpec,
    steps: RunSteps,
    cursor: Mapping[str, int],
    device: torch.device,
    slice_tokens: int,
) -> TrainingBatches:
    """Every micro-batch of some steps, requested ahead of use."""
    requests = (
        BatchRequest(plan.micro_batch_tokens, plan.sequence_tokens)
        for plan in steps.ahead()
        for _ in range(plan.micro_batches)
    )
    return TrainingBatches(
        spec.data.train,
        reading_order(spec.config),
        Cursor.from_json(cursor),
        requests,
        device,
        capacity_tokens=max(plan.micro_batch_tokens for plan in spec.plans),
        slice_tokens=slice_tokens,
    )


def _loss_scale(model: GPT, saved: Mapping[str, Any] | None) -> LossScale | None:
    """The scale that float16 needs, at its start or as a checkpoint has it."""
    if model.compute_dtype != torch.float16:
        return None
    loss_scale = LossScale()
    if saved is not None:
        loss_scale.load_state_dict(saved)
    return loss_scale


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
