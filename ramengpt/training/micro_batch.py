"""How many tokens pass through the network at once: what the user says, or what fits the GPU.

The schedule decides the tokens of a step. A micro-batch of the schedule that is too large for the
card passes through in slices (`ramengpt.data.batches.slices`), which changes the order of sums and
nothing else, as another card does. So the choice is said and recorded with the device
(`session/environment.py`), and is not part of what identifies a run: a run that ran out of memory
resumes with smaller slices.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ramengpt.config import Config
from ramengpt.config.schedule import WINDOW_BLOCK_TOKENS
from ramengpt.data.batches.slices import round_up, slice_sizes
from ramengpt.device import Profile, usable_memory_bytes
from ramengpt.errors import UserError
from ramengpt.training.memory import MemoryEstimate

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def choose_slice_tokens(
    config: Config,
    device_profile: Profile,
    compute_dtype: torch.dtype,
    slice_sequences: int | None,
) -> int:
    """Tokens of a slice: the largest size that fits and divides a micro-batch into few slices.

    Args:
        config: its `train.micro_batch_tokens` is a limit, or "auto" for what fits the card.
        device_profile: the card; on the CPU "auto" is no limit.
        compute_dtype: of the activations.
        slice_sequences: exactly so many longest sequences, if the environment says so; no more
            than the whole micro-batch.

    Raises:
        UserError: not even one longest sequence fits the card.
    """
    schedule = config.schedule
    longest = max(schedule.sequence.tokens)
    if slice_sequences is not None:
        wanted = round_up(slice_sequences * longest, WINDOW_BLOCK_TOKENS)
        return min(wanted, schedule.micro_batch_tokens)
    sizes = slice_sizes(schedule.micro_batch_tokens, longest, WINDOW_BLOCK_TOKENS)
    limit = config.train.micro_batch_tokens
    if limit != "auto":
        return next(size for size in sizes if size <= limit)
    if device_profile.memory_bytes == 0:
        return sizes[0]
    compiled = config.train.compile != "no" and runs_compiled(device_profile)
    estimate = MemoryEstimate.of(config, compute_dtype, compiled=compiled)
    usable = usable_memory_bytes(device_profile)
    for size in sizes:
        if estimate.training_bytes(size) <= usable:
            return size
    can_recompute = not config.train.recompute_activations
    raise UserError(
        f"params.yaml: train.micro_batch_tokens: even {sizes[-1]} tokens of this model need about "
        f"{estimate.training_bytes(sizes[-1]) / 2**30:.1f} GiB; {device_profile.name} has "
        f"{device_profile.memory_bytes / 2**30:.1f} GiB. Choose a smaller model"
        + (", set train.recompute_activations to true" if can_recompute else "")
        + f", or try it all the same with train.micro_batch_tokens={sizes[-1]}"
    )


def runs_compiled(device_profile: Profile) -> bool:
    """Whether `train.compile: auto` compiles, as `kernels.support` decides for a real device."""
    return device_profile.architecture != "amd" and device_profile.capability[0] >= 8


def slices_line(config: Config, slice_tokens: int, device_profile: Profile) -> str:
    """What a user should know of the choice; empty where micro-batches are left whole."""
    whole = config.schedule.micro_batch_tokens
    if slice_tokens >= whole:
        return ""
    on = f"; {device_profile.name} has {device_profile.memory_bytes / 2**30:.1f} GiB"
    return (
        f"micro-batches of {whole:,} tokens pass through the network in slices of up to "
        f"{slice_tokens:,}{on if device_profile.memory_bytes else ''}"
    )


@contextmanager
def out_of_memory_as_user_error() -> Iterator[None]:
    """Tell a user whose card is too small what to do.

    Raises:
        UserError: instead of the error that PyTorch or a compiler raised.
    """
    try:
        yield
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if _is_out_of_memory(line)]
        if not lines:
            raise
        # PyTorch adds every process on the card, and advice of its own.
        reason = lines[0].partition(" GPU ")[0].strip(" .")
        raise UserError(
            f"out of memory ({reason}); lower train.micro_batch_tokens, or set "
            "train.recompute_activations to true. The same run resumes from its newest checkpoint"
        ) from error


def _is_out_of_memory(line: str) -> bool:
    return any(words in line for words in OUT_OF_MEMORY)
