"""From params.yaml and the data on disk to a run, and from a finished run to its outputs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ramengpt.config import Config
from ramengpt.config.base import Section
from ramengpt.data.batcher import START, BatchRequest, Cursor
from ramengpt.data.bos_index import INDEX_FILE, INDEX_FOLDER, check_index
from ramengpt.data.loader import TrainingBatches, ValidationBatch, validation_batches
from ramengpt.data.manifest import MANIFEST_PATH, read_manifest
from ramengpt.data.split import SplitShards
from ramengpt.data.store import locate_store
from ramengpt.data.validation_stream import ValidationStream
from ramengpt.data.verification import check_store
from ramengpt.device import (
    choose_dtype,
    configure,
    flex_kernel_options,
    matmul_flops_per_second,
    profile,
)
from ramengpt.model.context import resolve_backend
from ramengpt.model.cost import flops_per_token
from ramengpt.model.gpt import GPT
from ramengpt.model.parameters import set_multipliers
from ramengpt.optimizers import OptimizerSet, build_optimizers
from ramengpt.progress import say
from ramengpt.training.checkpoint import CheckpointFolder
from ramengpt.training.clock import StepClock
from ramengpt.training.loop import Rows, TrainingRun, Validation, restore
from ramengpt.training.measurements import Measurements
from ramengpt.training.run_folders import RunFolders
from ramengpt.training.schedules import StepPlan, plan_run
from ramengpt.training.step import LossFunction
from ramengpt.training.tracking import Tracker


@dataclass(frozen=True)
class RunOptions:
    """What the command line and the environment add to params.yaml.

    Attributes:
        batch_size_multiple: multiplies the micro-batches of every step.
        early_stop_steps: end after so many steps of the same schedule; None for all of them.
    """

    batch_size_multiple: int
    early_stop_steps: int | None


def run_settings(config: Config, options: RunOptions) -> dict[str, Any]:
    """Every value that decides a run's result, JSON-ready."""
    free = {"download", "sample", "tracking"}
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    settings = {
        name: value.model_dump(mode="json") if isinstance(value, Section) else value
        for name, value in values.items()
        if name not in free
    }
    # How often to save does not change what is trained.
    settings["train"] = {
        key: value for key, value in settings["train"].items() if "checkpoint" not in key
    }
    return settings | {
        "batch_size_multiple": options.batch_size_multiple,
        "early_stop_steps": options.early_stop_steps,
    }


def plans_of(config: Config, options: RunOptions) -> tuple[StepPlan, ...]:
    """The steps of a run."""
    plans = plan_run(config.schedule, config.optimizer.momentum, options.batch_size_multiple)
    return plans[: options.early_stop_steps]


@dataclass(frozen=True)
class Data:
    """The checked shards of a dataset.

    Attributes:
        train: the train split.
        validation: the tokens of the validation split that count.
    """

    train: SplitShards
    validation: ValidationStream


def data_files() -> list[Path]:
    """The files by whose content a run knows its data."""
    return [MANIFEST_PATH, INDEX_FOLDER / INDEX_FILE]


def open_data(config: Config) -> Data:
    """Open what the earlier stages made, after checking that it is that.

    Raises:
        ShardError: a shard, the index or the manifest is missing, changed or of another dataset.
    """
    manifest = read_manifest()
    store = locate_store(manifest.dataset)
    store.announce()
    check_store(manifest, store.folder)
    check_index(manifest)
    train = SplitShards(manifest, "train", store.folder)
    val = SplitShards(manifest, "val", store.folder)
    return Data(train, ValidationStream(val, config.validation.tokens))


def build_model(config: Config, device: torch.device) -> GPT:
    """The selected model, initialised from the seed, on its device.

    Raises:
        ValueError: the device cannot do what params.yaml asks for.
    """
    device_profile = profile(device)
    backend = resolve_backend(config.train.attention_backend, device)
    dtype = choose_dtype(config.train.precision, device_profile)
    options = None
    if backend == "flex":
        options = flex_kernel_options(device_profile, config.model.head_dim, dtype)
    torch.manual_seed(config.seed)
    return GPT(
        config.model,
        max_sequence_tokens=max(config.schedule.sequence.tokens),
        backend=backend,
        compute_dtype=dtype,
        kernel_options=options,
    ).to(device)


def compile_wanted(config: Config, device: torch.device) -> bool:
    """What `train.compile` means on this device."""
    return config.train.compile == "yes" or (
        config.train.compile == "auto" and device.type == "cuda"
    )


def build_run_optimizers(config: Config, model: GPT, plans: tuple[StepPlan, ...]) -> OptimizerSet:
    """The optimizers of the selected model's parameters."""
    set_multipliers(model.parameters(), config.parameters)
    return build_optimizers(
        model.named_parameters(),
        optimizer=config.optimizer,
        embedding_adam=config.embedding_adam,
        scalar_adam=config.scalar_adam,
        gradient_clipping=config.gradient_clipping,
        embedding_tied=plans[0].embedding_tied,
        compile=compile_wanted(config, model.head.weight.device),
    )


@contextmanager
def prepared_run(
    config: Config,
    options: RunOptions,
    data: Data,
    folders: RunFolders,
    *,
    checkpoints: CheckpointFolder,
    show: Callable[[Rows], None],
) -> Iterator[TrainingRun]:
    """Build a run, at its start or where its newest checkpoint left it.

    Args:
        config: the selected values.
        options: of the command line and the environment.
        data: checked.
        folders: where the run writes.
        checkpoints: of this run alone.
        show: is told the logged rows.

    Yields:
        The run; the thread that loads its batches ends with the block, and its tracker is closed.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    configure(device)
    plans = plans_of(config, options)
    model = build_model(config, device)
    optimizers = build_run_optimizers(config, model, plans)
    state, passed_over = checkpoints.load_newest(device)
    for line in passed_over:
        say(line)
    first_step = state["step"] if state else 0
    if state:
        say(f"going on after step {first_step}, from {checkpoints.path(first_step)}")
        restore(model, optimizers, state)
    tracker = Tracker(
        folders.results,
        config.tracking,
        run_settings(config, options),
        wandb_directory=folders.wandb,
        state=state["tracker"] if state else None,
    )
    clock = StepClock(device, state["seconds"] if state else 0.0)
    cursor = Cursor.from_json(state["cursor"]) if state else START
    requests = [
        BatchRequest(plan.micro_batch_tokens, plan.sequence_tokens)
        for plan in plans[first_step:]
        for _ in range(plan.micro_batches)
    ]
    with TrainingBatches(data.train, cursor, requests, device) as batches:
        run = TrainingRun(
            model=model,
            loss_function=compiled_loss(config, model, device),
            optimizers=optimizers,
            plans=plans,
            first_step=first_step,
            batches=batches,
            validation=_validation(config, data.validation, model, device),
            measurements=_measurements(config, model, clock, device),
            tracker=tracker,
            show=show,
            checkpoints=checkpoints,
            checkpoint_every_steps=config.train.checkpoint_every_steps,
        )
        try:
            yield run
        finally:
            tracker.close()


def compiled_loss(config: Config, model: GPT, device: torch.device) -> LossFunction:
    """The model's mean loss: one graph, compiled once for all windows and batch sizes, or plain."""
    if not compile_wanted(config, device):
        return model
    return torch.compile(model, dynamic=False, fullgraph=True)


def _validation(
    config: Config, stream: ValidationStream, model: GPT, device: torch.device
) -> Validation:
    request = BatchRequest(config.schedule.micro_batch_tokens, model.max_sequence_tokens)

    def batches() -> Iterator[ValidationBatch]:
        return validation_batches(stream, request, device)

    window_tokens = config.schedule.window.validation_tokens
    return Validation(batches, window_tokens, config.validation.every_steps)


def _measurements(
    config: Config, model: GPT, clock: StepClock, device: torch.device
) -> Measurements:
    def flops(plan: StepPlan) -> float:
        return flops_per_token(
            config.model,
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
