"""What params.yaml asks for, built on a device: the model, its compiled loss, its optimizers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ramengpt.config import Config
from ramengpt.config.model import NetworkConfig
from ramengpt.data.text.tokenizer import token_prefixes
from ramengpt.device import Profile, choose_dtype, flex_kernel_options, profile
from ramengpt.errors import UserError
from ramengpt.kernels.head.softcapped_cross_entropy import check_float8_sizes
from ramengpt.kernels.support import supports_kernels
from ramengpt.kernels.tiles import TMA_MAJORS
from ramengpt.model.attention_backend import resolve_backend
from ramengpt.model.gpt import GPT
from ramengpt.model.parameters import set_multipliers
from ramengpt.optimizers import OptimizerSet, build_optimizers
from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.step import LossFunction


def build_model(config: Config, device: torch.device) -> GPT:
    """The selected model, initialised from the seed, on its device.

    Raises:
        UserError: the device cannot do what params.yaml asks for.
    """
    backend = resolve_backend(config.train.attention_backend, device)
    options = None
    with device_errors_as_user_errors():
        device_profile = profile(device)
        dtype = choose_dtype(config.train.precision, device_profile)
        if backend == "flex":
            options = flex_kernel_options(device_profile, config.network.head_dim, dtype)
        if config.train.float8_head:
            check_float8_head(device_profile, dtype, config.network)
        if config.train.float8_mlp:
            check_float8_mlp(device_profile, dtype, config)
    torch.manual_seed(config.seed)  # initialised on the CPU: the same weights on every device
    return GPT(
        config.network,
        max_sequence_tokens=max(config.schedule.sequence.tokens),
        backend=backend,
        compute_dtype=dtype,
        kernel_options=options,
        float8_head=config.train.float8_head,
        float8_mlp=config.train.float8_mlp,
        prefixes_V=_prefix_table(config),
        recompute_activations=config.train.recompute_activations,
    ).to(device)


def _prefix_table(config: Config) -> torch.Tensor | None:
    """The prefix of every token, for `prefix_loss`; None without it."""
    if not config.network.prefix_loss:
        return None
    prefixes = token_prefixes()
    if len(prefixes) != config.network.vocabulary:
        raise UserError(
            f"params.yaml: prefix_loss needs GPT-2's vocabulary of {len(prefixes)} tokens, found "
            f"models.{config.model_name}.vocabulary {config.network.vocabulary}; set "
            f"architectures.{config.architecture_name}.prefix_loss to false"
        )
    return torch.from_numpy(prefixes)


def check_float8_head(device_profile: Profile, dtype: torch.dtype, model: NetworkConfig) -> None:
    """Refuse `train.float8_head` where its kernels cannot run.

    Raises:
        ValueError: the device is no H100, H200 or data centre Blackwell, the rest of the network is
            not in bfloat16, or a size is not one of whole blocks.
    """
    _check_float8_device("float8_head", device_profile, dtype)
    sizes = {"width": model.width, "the padded vocabulary": model.padded_vocabulary}
    check_float8_sizes("float8_head", sizes)


def check_float8_mlp(device_profile: Profile, dtype: torch.dtype, config: Config) -> None:
    """Refuse `train.float8_mlp` where its kernels cannot run, or would run a layer twice.

    Raises:
        ValueError: as for the head; or another activation, or recomputed activations, whose second
            forward pass would see other scales than the first.
    """
    _check_float8_device("float8_mlp", device_profile, dtype)
    model = config.network
    if model.activation != "relu_squared":
        raise ValueError(
            f"float8_mlp: needs the activation relu_squared, found {model.activation}; set "
            "train.float8_mlp to false"
        )
    if config.train.recompute_activations:
        raise ValueError(
            "float8_mlp: does not go with train.recompute_activations; set one of the two to false"
        )
    check_float8_sizes("float8_mlp", {"width": model.width, "ffn_dim": model.ffn_units})


def _check_float8_device(key: str, device_profile: Profile, dtype: torch.dtype) -> None:
    is_amd, major = device_profile.architecture == "amd", device_profile.capability[0]
    if is_amd or major not in TMA_MAJORS or dtype != torch.bfloat16:
        raise ValueError(
            f"{key}: needs an H100, H200, B200 or B300 and bfloat16, found "
            f"{device_profile.name} and {dtype}; set train.{key} to false"
        )


@contextmanager
def device_errors_as_user_errors() -> Iterator[None]:
    """Name params.yaml in errors of `ramengpt.device`, which knows of no config."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"params.yaml: {error}") from None


def should_compile(config: Config, device: torch.device) -> bool:
    """What `train.compile` means on this device."""
    return config.train.compile == "yes" or (
        config.train.compile == "auto" and supports_kernels(device)
    )


def build_run_optimizers(config: Config, model: GPT, plans: Sequence[StepPlan]) -> OptimizerSet:
    """The optimizers of the selected model's parameters."""
    set_multipliers(model.parameters(), config.parameters)
    return build_optimizers(
        model.named_parameters(),
        optimizer=config.optimizer,
        embedding_adam=config.embedding_adam,
        scalar_adam=config.scalar_adam,
        gradient_clipping=config.gradient_clipping,
        hooks=config.hooks,
        embedding_tied=plans[0].embedding_tied,
        compile=should_compile(config, model.head.weight.device),
    )


def compiled_loss(config: Config, model: GPT, device: torch.device) -> LossFunction:
    """The model's mean loss: one graph, compiled once for all windows and batch sizes, or plain."""
    if not should_compile(config, device):
        return model
    return torch.compile(model, dynamic=False, fullgraph=True)
