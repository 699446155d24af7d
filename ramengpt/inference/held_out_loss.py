"""Held-out loss: every one of the first tokens of the validation split, each counted once.

T: tokens of a micro-batch.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ramengpt.data.batches.loader import ValidationBatch
from ramengpt.data.shards.format import BOS_TOKEN


class HeldOutLoss(NamedTuple):
    """How well a model predicted the validation split.

    Attributes:
        loss: mean, in nats/token.
        text_nats: sum over all tokens but those that open a document.
    """

    loss: float
    text_nats: float


class EvaluatedModel(Protocol):
    """What validation needs of a model."""

    def token_losses(self, tokens_T: Tensor, targets_T: Tensor, positions_T: Tensor) -> Tensor:
        """Float32 [T], the loss of each token."""
        ...


@torch.no_grad()
def validation_loss(model: EvaluatedModel, batches: Iterable[ValidationBatch]) -> HeldOutLoss:
    """Predict the validation split.

    Sums are float64: adding ten million float32 losses in float32 would lose digits.

    Args:
        model: as it is to be evaluated.
        batches: the validation split, each token once.
    """
    sums_2: Tensor | None = None  # of all losses, and of those of text
    tokens = 0
    for batch in batches:
        losses_T = model.token_losses(batch.tokens_T, batch.targets_T, batch.positions_T)
        losses_T = losses_T[: batch.valid_tokens].double()
        of_text_T = losses_T * (batch.targets_T[: batch.valid_tokens] != BOS_TOKEN)
        part_2 = torch.stack([losses_T.sum(), of_text_T.sum()])
        sums_2 = part_2 if sums_2 is None else sums_2 + part_2
        tokens += batch.valid_tokens
    assert sums_2 is not None and tokens > 0
    total, text_nats = sums_2.tolist()
    return HeldOutLoss(total / tokens, text_nats)


def bits_per_byte(text_nats: float, text_bytes: int) -> float:
    """Bits per byte of text, whatever the tokenizer; infinite if there is no text."""
    return text_nats / math.log(2) / text_bytes if text_bytes else math.inf
