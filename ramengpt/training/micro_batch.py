"""Which micro-batch fits the GPU: a suggestion; params.yaml stays what decides."""

import torch

from ramengpt.config import Config
from ramengpt.config.schedule import WINDOW_BLOCK_TOKENS
from ramengpt.device import choose_dtype, profile, suggest_micro_batch
from ramengpt.errors import UserError
from ramengpt.model.cost import training_bytes
from ramengpt.training.network import device_errors_as_user_errors


def suggested_micro_batch(config: Config) -> str:
    """Say which micro-batch should fit the GPU; params.yaml stays what decides.

    Raises:
        UserError: there is no GPU, or not even one sequence fits.
    """
    if not torch.cuda.is_available():
        raise UserError("--suggest-micro-batch: found no GPU, whose memory it would go by")
    sequence_blocks = -(-max(config.schedule.sequence.tokens) // WINDOW_BLOCK_TOKENS)
    with device_errors_as_user_errors():
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
