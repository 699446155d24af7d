"""Held-out loss: every one of the first tokens of the validation split, each counted once."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from ramengpt.data.batches.loader import ValidationBatch


class EvaluatedModel(Protocol):
    """What validation needs of a model."""

    def token_losses(self, tokens_T: Tensor, targets_T: Tensor, positions_T: Tensor) -> Tensor:
        """Float32 [T], the loss of each token."""
        ...


@torch.no_grad()
def validation_loss(model: EvaluatedModel, batches: Iterable[ValidationBatch]) -> float:
    """Mean loss in nats/token.

    Sums are float64: adding ten million float32 losses in float32 would lose digits.

    Args:
        model: as it is to be evaluated.
        batches: the validation split, each token once.

    Returns:
        The mean over the tokens that count.
    """
    total: Tensor | None = None
    tokens = 0
    for batch in batches:
        losses_T = model.token_losses(batch.tokens_T, batch.targets_T, batch.positions_T)
        part = losses_T[: batch.valid_tokens].double().sum()
        total = part if total is None else total + part
        tokens += batch.valid_tokens
    assert total is not None and tokens > 0
    return float(total) / tokens
