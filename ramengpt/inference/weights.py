"""Final weights as two plain files: tensors in safetensors, and beside them what they belong to.

    <folder>/model.safetensors    float32, named as in the model's state_dict
    <folder>/config.json          the network, its context length, and the run's settings

The attention window that the network is to be used with is part of its state (`rotary.*`), so
loading the two files gives the network as it was evaluated. The first file's metadata hold a
checksum of the network and one of the tensors, so that a flipped bit in either file is refused.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ramengpt.device import choose_dtype, flex_kernel_options, profile
from ramengpt.files import flush_folder, write_bytes
from ramengpt.inference.weights_config import (
    CONFIG_FILE,
    FORMAT,
    RESTORE,
    WEIGHTS_FILE,
    WeightsConfig,
    WeightsError,
    open_weights,
    read_weights_config,
    weights_checksums,
)
from ramengpt.model.attention_backend import resolve_backend
from ramengpt.model.gpt import GPT
from ramengpt.model.mlp import LARGEST_H


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

    Not one by one into place: whoever loads both files must find those of one run. The caller
    renames the folder.

    Args:
        model: as trained; it is left as it is.
        folder: emptied if it is there.
        window_tokens: long attention window that the network is to be used with.
        micro_batch_tokens: of the run's validation.
        run: what the run was started with, JSON-ready.

    Raises:
        OSError: the folder cannot be written to or the disk is full; it names the file.
    """
    from safetensors.torch import save

    config = WeightsConfig(
        format=FORMAT,
        model=model.config,
        max_sequence_tokens=model.max_sequence_tokens,
        micro_batch_tokens=micro_batch_tokens,
        run=dict(run),
    )
    with model.temporary_window(window_tokens):
        tensors = {
            name: value.cpu().clone()
            for name, value in model.state_dict().items()
            if name.rpartition(".")[2] != LARGEST_H
        }
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    # Not by save_file: it reports a full disk without the file's name and the system's number.
    # One entry only: safetensors writes several in random order, so equal runs would differ.
    metadata = {"sha256": f"{config.network_sha256}-{_tensors_sha256(tensors)}"}
    write_bytes(folder / WEIGHTS_FILE, save(tensors, metadata))
    write_bytes(folder / CONFIG_FILE, (config.model_dump_json(indent=2) + "\n").encode())
    flush_folder(folder)


def load_weights(folder: Path, device: torch.device) -> Weights:
    """Build the network that a folder describes and fill it with the folder's weights.

    No memory is spent on a network before it is known that the weights are those of it.

    Args:
        folder: as :func:`export_weights` wrote it.
        device: where the network goes; attention and precision are those that suit it.

    Raises:
        WeightsError: the folder or a file is missing, damaged, or the two do not belong together.
    """
    config = read_weights_config(folder)
    path = folder / WEIGHTS_FILE
    with open_weights(path, "pt") as file:
        names = file.offset_keys()  # in the order in which they lie on the disk
        tensors = {name: file.get_tensor(name) for name in names}
        _, expected_sha256 = weights_checksums(file)
    if _tensors_sha256(tensors) != expected_sha256:
        raise WeightsError(f"{path}: damaged, its checksum is another; {RESTORE}")
    _check_finite(path, tensors)
    model = _build(config, device)
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


def _tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Checksum of the tensors, their names, types and shapes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            count = int((~tensor.isfinite()).sum())
            raise WeightsError(f"{path}: {name}: {count} values are not finite; train again")
