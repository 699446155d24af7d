"""The GPU: its properties, the settings that suit it, and the workarounds that PyTorch needs.

Imports nothing from data, model, optimizers or training; imports triton only with CUDA.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ramengpt.host import keep_freed_memory, user_cache_folder

Architecture = Literal[
    "none", "unknown", "volta", "turing", "ampere", "ada", "hopper", "blackwell", "amd"
]

_CONSUMER_BLACKWELL_MAJOR = 12
_FLEX_FORWARD_TILES = ((128, 64, 3), (64, 64, 2), (64, 32, 2), (32, 32, 1), (16, 16, 1))
"""Queries, keys and pipeline stages of FlexAttention's forward kernel, the fastest first."""
_HOPPER_FLEX_FORWARD = {
    "fwd_BLOCK_M": 64,
    "fwd_BLOCK_N": 64,
    "fwd_num_warps": 4,
    "fwd_num_stages": 3,
}
_HOPPER_FLEX_BACKWARD = {
    "bwd_BLOCK_M1": 32,
    "bwd_BLOCK_N1": 64,
    "bwd_BLOCK_M2": 64,
    "bwd_BLOCK_N2": 32,
    "bwd_num_warps": 4,
    "bwd_num_stages": 3,
}
"""Measured with short windows: the backward tiles beat PyTorch's for heads up to 64."""
_USABLE_MEMORY = 0.85


@dataclass(frozen=True)
class Profile:
    """Properties of a device."""

    architecture: Architecture
    name: str
    capability: tuple[int, int]
    shared_memory_bytes: int
    """Maximum per program, with opt-in."""
    memory_bytes: int
    """What PyTorch may allocate of the card's memory; 0 for the CPU."""
    bfloat16: bool
    """Whether bfloat16 GEMMs are native, four times as fast as float32."""


def profile(device: torch.device) -> Profile:
    """Describe a device; the CPU is a `Profile` whose architecture is "none"."""
    if device.type != "cuda":
        has = torch.cpu.get_capabilities()
        bfloat16 = bool(has.get("avx512_bf16") or has.get("amx_bf16"))
        return Profile("none", "CPU", (0, 0), 0, 0, bfloat16)
    properties = torch.cuda.get_device_properties(device)
    # Unlike the properties, the fraction takes no device without an index.
    index = torch.cuda.current_device() if device.index is None else device.index
    capability = (properties.major, properties.minor)
    return Profile(
        architecture=architecture_of(capability),
        name=properties.name,
        capability=capability,
        # PyTorch for AMD does not report it.
        shared_memory_bytes=getattr(properties, "shared_memory_per_block_optin", 0),
        memory_bytes=int(
            properties.total_memory * torch.cuda.get_per_process_memory_fraction(index)
        ),
        bfloat16=torch.version.hip is not None or properties.major >= 8,
    )


def architecture_of(capability: tuple[int, int]) -> Architecture:
    """Name of an architecture from CUDA's compute capability.

    V100 is 7.0, T4 and 20-series 7.5, A100 8.0, 30-series 8.6, 40-series and L4 8.9, H100 and H200
    9.0, B200 10.x, 50-series 12.x. PyTorch for AMD gives numbers of AMD's own: MI300 is 9.4.
    """
    if torch.version.hip is not None:
        return "amd"
    major, minor = capability
    if major == 7:
        return "turing" if minor == 5 else "volta"
    if major == 8:
        return "ada" if minor == 9 else "ampere"
    if major == 9:
        return "hopper"
    return "blackwell" if major in (10, 11, 12) else "unknown"


def choose_dtype(
    name: Literal["auto", "float32", "bfloat16", "float16"], device_profile: Profile
) -> torch.dtype:
    """The dtype of GEMMs for `train.precision`.

    Raises:
        ValueError: bfloat16 was asked for on a GPU that lacks it.
    """
    if name == "auto":
        if device_profile.bfloat16:
            return torch.bfloat16
        has_float16 = device_profile.architecture in ("volta", "turing")
        return torch.float16 if has_float16 else torch.float32
    if name == "bfloat16" and device_profile.architecture != "none" and not device_profile.bfloat16:
        raise ValueError(
            f"precision: {device_profile.name} has no bfloat16 matrix units; use float16 or auto"
        )
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return dtypes[name]


def flex_kernel_options(
    device_profile: Profile, head_dim: int, dtype: torch.dtype
) -> dict[str, int]:
    """FlexAttention's options: tiles measured for Hopper, PyTorch's own, or the largest that fit.

    PyTorch picks tiles by compute capability 8.x, 9.x, ...; for the 30- and 40-series these are
    A100's, and need more shared memory than they have when heads are wide.

    Args:
        device_profile: the GPU.
        head_dim: units of a head.
        dtype: of queries, keys and values.

    Returns:
        For `flex_attention(kernel_options=...)`.

    Raises:
        ValueError: no tile fits.
    """
    if device_profile.architecture == "hopper" and dtype == torch.bfloat16 and head_dim <= 128:
        return _HOPPER_FLEX_FORWARD | (_HOPPER_FLEX_BACKWARD if head_dim <= 64 else {})
    unit_bytes = head_dim * dtype.itemsize
    fitting = [
        tile
        for tile in _FLEX_FORWARD_TILES
        if _flex_forward_bytes(*tile, unit_bytes) <= device_profile.shared_memory_bytes
    ]
    if not fitting:
        raise ValueError(
            f"attention_backend: no FlexAttention tile for heads of {head_dim} fits the "
            f"{device_profile.shared_memory_bytes} bytes of shared memory of "
            f"{device_profile.name}; use sdpa"
        )
    if fitting[0] == _FLEX_FORWARD_TILES[0]:
        return {}
    names = ("fwd_BLOCK_M", "fwd_BLOCK_N", "fwd_num_stages")
    return dict(zip(names, fitting[0], strict=True))


def _flex_forward_bytes(queries: int, keys: int, stages: int, unit_bytes: int) -> int:
    """Shared memory for one tile of queries and `stages` tiles of keys and of values."""
    return (queries + 2 * stages * keys) * unit_bytes


def configure(device: torch.device) -> None:
    """Prepare PyTorch for a run, before any tensor exists: compile cache and device settings.

    Compiled kernels are kept in `ramengpt/inductor` in the user's cache folder, unless
    `TORCHINDUCTOR_CACHE_DIR` names another.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache_folder() / "inductor"))
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for float32 GEMMs
        patch_triton_shared_memory(profile(device))
    else:
        keep_freed_memory()


def patch_triton_shared_memory(device_profile: Profile, utilities: Any = None) -> bool:
    """Let Triton use the shared memory that a consumer Blackwell card has.

    For compute capability 12.x, some releases of Triton report the 48 KiB available without opt-in,
    and then refuse kernels that would run.

    Args:
        device_profile: what CUDA says of the card.
        utilities: Triton's driver utilities; the active driver's by default.

    Returns:
        Whether anything was patched: never on other cards, nor where Triton is right.
    """
    major = device_profile.capability[0]
    if device_profile.architecture != "blackwell" or major != _CONSUMER_BLACKWELL_MAJOR:
        return False
    if utilities is None:
        from triton.runtime import driver

        utilities = driver.active.utils
    reported: Callable[[int], dict[str, Any]] = utilities.get_device_properties
    if reported(0)["max_shared_mem"] >= device_profile.shared_memory_bytes:
        return False

    def corrected(device_index: int) -> dict[str, Any]:
        properties = reported(device_index)
        return properties | {"max_shared_mem": device_profile.shared_memory_bytes}

    utilities.get_device_properties = corrected
    return True


def usable_memory_bytes(device_profile: Profile) -> float:
    """What a run may plan with. By the card, not by what is free now: the same card, the same run.

    The rest is for the driver's context, fragmentation, a display, and the estimate's error.
    """
    return _USABLE_MEMORY * device_profile.memory_bytes
