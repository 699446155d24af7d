"""Final weights as two plain files: tensors in safetensors, and beside them what they belong to.

    <folder>/model.safetensors    float32, named as in the model's state_dict
    <folder>/config.json          the network, its context length, and how the run judged it

The attention window that the network is to be used with is part of its state (`rotary.*`), so
loading the two files gives the network as it was evaluated.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ramengpt.config.base import Section
from ramengpt.config.model import NetworkConfig
from ramengpt.device import choose_dtype, flex_kernel_options, profile
from ramengpt.errors import UserError
from ramengpt.files import flush_folder, write_bytes
from ramengpt.model.attention_backend import resolve_backend
from ramengpt.model.gpt import GPT

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
FORMAT = "ramengpt-1"


class WeightsError(UserError):
    """A folder of weights that cannot be used."""


class WeightsConfig(Section):
    """What config.json holds.

    Attributes:
        format: which layout of these files this is.
        model: the network.
        max_sequence_tokens: longest document that it was trained for.
        micro_batch_tokens: of the run's validation; its loss is reproduced with the same.
        run: what the run was started with, for the reader.
    """

    format: str
    model: NetworkConfig
    max_sequence_tokens: int
    micro_batch_tokens: int
    run: dict[str, Any]


@dataclass(frozen=True)
class Weights:
    """A loaded network, ready to be evaluated, and what it was loaded from."""

    model: GPT
    config: WeightsConfig


def export_weights(
    model: GPT,
    folder: Path,
    *,
    window_tokens: int,
    micro_batch_tokens: int,
    run: Mapping[str, Any],
) -> None:
    """Write the final weights into a new folder.

    Not one by one into place: safetensors writes under temporary names of its own, and whoever
    loads both files must find those of one run. The caller renames the folder.

    Args:
        model: as trained; it is left as it is.
        folder: emptied if it is there.
        window_tokens: long attention window that the network is to be used with.
        micro_batch_tokens: of the run's validation.
        run: what the run was started with, JSON-ready.
    """
    from safetensors.torch import save_file

    config = WeightsConfig(
        format=FORMAT,
        model=model.config,
        max_sequence_tokens=model.max_sequence_tokens,
        micro_batch_tokens=micro_batch_tokens,
        run=dict(run),
    )
    with model.temporary_window(window_tokens):
        tensors = {name: value.cpu().clone() for name, value in model.state_dict().items()}
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": FORMAT})
    with (folder / WEIGHTS_FILE).open("rb") as file:
        os.fsync(file.fileno())
    write_bytes(folder / CONFIG_FILE, (config.model_dump_json(indent=2) + "\n").encode())
    flush_folder(folder)


def load_weights(folder: Path, device: torch.device) -> Weights:
    """Build the network that a folder describes and fill it with the folder's weights.

    Args:
        folder: as :func:`export_weights` wrote it.
        device: where the network goes; attention and precision are those that suit it.

    Raises:
        WeightsError: the folder or a file is missing, damaged, or the two do not belong together.
    """
    config = _read_config(folder)
    tensors = _read_tensors(folder / WEIGHTS_FILE)
    model = _build(config, device)
    _check_fit(folder, tensors, model.state_dict())
    model.load_state_dict(tensors)
    return Weights(model.to(device).eval(), config)


def _build(config: WeightsConfig, device: torch.device) -> GPT:
    """The network with random weights, on the CPU, made for the device."""
    device_profile = profile(device)
    backend = resolve_backend("auto", device)
    dtype = choose_dtype("auto", device_profile)
    head_dim = config.model.head_dim
    flex = backend == "flex"
    return GPT(
        config.model,
        max_sequence_tokens=config.max_sequence_tokens,
        backend=backend,
        compute_dtype=dtype,
        kernel_options=flex_kernel_options(device_profile, head_dim, dtype) if flex else None,
    )


def _read_config(folder: Path) -> WeightsConfig:
    path = folder / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        what = f"no {CONFIG_FILE} in it" if folder.is_dir() else "no such folder"
        raise WeightsError(
            f"{folder}: {what}; train first (`dvc repro`), or name a folder that holds "
            f"{WEIGHTS_FILE} and {CONFIG_FILE}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from None
    try:
        config = WeightsConfig.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise WeightsError(
            f"{path}: {key}: {first['msg']}; restore it (`dvc checkout`), or train again"
        ) from None
    if config.format != FORMAT:
        raise WeightsError(f"{path}: format: expected {FORMAT!r}, found {config.format!r}")
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: missing; restore it (`dvc checkout`), or train again"
        ) from None
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: damaged or no safetensors file ({error}); restore it (`dvc checkout`), "
            "or train again"
        ) from None


def _check_fit(folder: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare names and shapes; the error counts the differences and shows the first."""
    differences = [
        f"{name}: expected {_shape(expected.get(name))}, found {_shape(found.get(name))}"
        for name in dict.fromkeys([*expected, *found])
        if _shape(expected.get(name)) != _shape(found.get(name))
    ]
    if differences:
        raise WeightsError(
            f"{folder / WEIGHTS_FILE}: weights of another model than {CONFIG_FILE} describes, "
            f"{len(differences)} tensors differ, the first is {differences[0]}; keep both files "
            "of one run together"
        )


def _shape(tensor: Tensor | None) -> str:
    return (
        "none"
        if tensor is None
        else f"{tensor.dtype}".removeprefix("torch.") + str(list(tensor.shape))
    )
