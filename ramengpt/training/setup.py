"""From params.yaml, checked data and the newest checkpoint to a run that is ready to go on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from ramengpt.config import Config
from ramengpt.config.model import NetworkConfig
from ramengpt.config.schedule import WINDOW_BLOCK_TOKENS
from ramengpt.data.batches.batcher import START, BatchRequest, Cursor
from ramengpt.data.batches.loader import TrainingBatches, ValidationBatch, validation_batches
from ramengpt.data.batches.validation_stream import ValidationStream
from ramengpt.device import (
    Profile,
    choose_dtype,
    configure,
    flex_kernel_options,
    profile,
    suggest_micro_batch,
)
from ramengpt.errors import UserError
from ramengpt.kernels.head.softcapped_cross_entropy import check_float8_sizes
from ramengpt.kernels.tiles import BLOCK_COPY_MAJORS
from ramengpt.model.attention_backend import resolve_backend
from ramengpt.model.cost import flops_per_token, training_bytes
from ramengpt.model.gpt import GPT
from ramengpt.model.parameters import set_multipliers
from ramengpt.optimizers import OptimizerSet, build_optimizers
from ramengpt.progress import say
from ramengpt.training.loop import Rows, TrainingRun, Validation, restore
from ramengpt.training.run_data import Data
from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.session.checkpoint import CheckpointFolder
from ramengpt.training.session.settings import RunOptions, plans_of
from ramengpt.training.step import LossFunction
from ramengpt.training.tracking import Tracker
from ramengpt.training.tracking.clock import StepClock
from ramengpt.training.tracking.measurements import Measurements, matmul_flops_per_second


def build_model(config: Config, device: torch.device) -> GPT:
    """The selected model, initialised from the seed, on its device.

    Raises:
        UserError: the device cannot do what params.yaml asks for.
    """
    backend = resolve_backend(config.train.attention_backend, device)
    options = None
    with device_errors_of_user():
        device_profile = profile(device)
        dtype = choose_dtype(config.train.precision, device_profile)
        if backend == "flex":
            options = flex_kernel_options(device_profile, config.network.head_dim, dtype)
        if config.train.float8_head:
            check_float8_head(device_profile, dtype, config.network)
    torch.manual_seed(config.seed)
    return GPT(
        config.network,
        max_sequence_tokens=max(config.schedule.sequence.tokens),
        backend=backend,
        compute_dtype=dtype,
        kernel_options=options,
        float8_head=config.train.float8_head,
    ).to(device)


def check_float8_head(device_profile: Profile, dtype: torch.dtype, model: NetworkConfig) -> None:
    """Refuse `train.float8_head` where its kernels cannot run.

    Raises:
        ValueError: the device is no H100, H200 or data centre Blackwell, the rest of the network is
            not in bfloat16, or a size is not one of whole blocks.
    """
    if device_profile.capability[0] not in BLOCK_COPY_MAJORS or dtype != torch.bfloat16:
        raise ValueError(
            f"float8_head: needs an H100, H200, B200 or B300 and bfloat16, found "
            f"{device_profile.name} and {dtype}; set train.float8_head to false"
        )
    sizes = {"width": model.width, "the padded vocabulary": model.padded_vocabulary}
    check_float8_sizes(sizes)


@contextmanager
def device_errors_of_user() -> Iterator[None]:
    """Name params.yaml in what `ramengpt.device`, which knows of no config, cannot do."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"params.yaml: {error}") from None


def suggested_micro_batch(config: Config) -> str:
    """Say which micro-batch should fit the GPU; params.yaml stays what decides.

    Raises:
        UserError: there is no GPU, or not even one sequence fits.
    """
    if not torch.cuda.is_available():
        raise UserError("--suggest-micro-batch: found no GPU, whose memory it would go by")
    sequence_blocks = -(-max(config.schedule.sequence.tokens) // WINDOW_BLOCK_TOKENS)
    with device_errors_of_user():
        device_profile = profile(torch.device("cuda"))
        dtype = choose_dtype(config.train.precision, device_profile)
        tokens = suggest_micro_batch(
            lambda micro_batch_tokens: training_bytes(config.network, micro_batch_tokens, dtype),
            device_profile,
            multiple=sequence_blocks * WINDOW_BLOCK_TOKENS,
        )
    return (
        f"{tokens} tokens should fit {device_profile.name}; "
        f"schedules.{config.schedule_name}.micro_batch_tokens of params.yaml is "
        f"{config.schedule.micro_batch_tokens}"
    )


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
    checkpoints: CheckpointFolder,
    *,
    record: Mapping[str, Any],
    wandb_directory: Path,
    show: Callable[[Rows], None],
) -> Iterator[TrainingRun]:
    """Build a run, at its start or where its newest checkpoint left it.

    Args:
        config: the selected values.
        options: of the command line and the environment.
        data: checked.
        checkpoints: of this run alone; its log grows beside them.
        record: what the run was started with, shown by wandb.
        wandb_directory: parent of wandb's own folder.
        show: is told the logged rows.

    Yields:
        The run; the thread that loads its batches ends with the block, and its tracker is closed.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    configure(device)
    plans = plans_of(config, options)
    model = build_model(config, device)
    optimizers = build_run_optimizers(config, model, plans)
    state = _resume(checkpoints, model, optimizers)
    remaining = plans[state["step"] :]
    clock = StepClock(device, state["seconds"])
    tracker = Tracker(
        checkpoints.log,
        config.tracking,
        record,
        wandb_directory=wandb_directory,
        state=state["tracker"],
    )
    with (
        closing(tracker),
        TrainingBatches(
            data.train, Cursor.from_json(state["cursor"]), _requests(remaining), device
        ) as batches,
    ):
        yield TrainingRun(
            model=model,
            loss_function=compiled_loss(config, model, device),
            optimizers=optimizers,
            plans=remaining,
            batches=batches,
            validation=_validation(config, data.validation, model, device),
            measurements=_measurements(config, model, clock, device),
            tracker=tracker,
            show=show,
            checkpoints=checkpoints,
            checkpoint_every_steps=config.train.checkpoint_every_steps,
        )


def _resume(
    checkpoints: CheckpointFolder, model: GPT, optimizers: OptimizerSet
) -> Mapping[str, Any]:
    """Bring model, optimizers and random numbers to the newest checkpoint, if there is one.

    Returns:
        `step`, `seconds`, `cursor` and `tracker`, from which the rest is built.
    """
    state, passed_over = checkpoints.load_newest()
    for line in passed_over:
        say(line)
    if state is None:
        return {"step": 0, "seconds": 0.0, "cursor": START.to_json(), "tracker": None}
    say(f"going on after step {state['step']}, from {checkpoints.path(state['step'])}")
    restore(model, optimizers, state)
    return state


def _requests(plans: Sequence[StepPlan]) -> list[BatchRequest]:
    """Every micro-batch of some steps."""
    return [
        BatchRequest(plan.micro_batch_tokens, plan.sequence_tokens)
        for plan in plans
        for _ in range(plan.micro_batches)
    ]


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
