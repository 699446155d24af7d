"""Validation counts each token once and no padding."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ramengpt.inference.held_out_loss import validation_loss


@dataclass
class Part:
    tokens_T: Tensor
    targets_T: Tensor
    positions_T: Tensor
    valid_tokens: int


class TokensAreLosses:
    def token_losses(self, tokens_T: Tensor, targets_T: Tensor, positions_T: Tensor) -> Tensor:
        return tokens_T.float()


def part(values: list[float], valid_tokens: int) -> Part:
    tokens_T = torch.tensor(values)
    return Part(tokens_T, tokens_T, tokens_T, valid_tokens)


def test_mean_over_valid_tokens_only() -> None:
    parts = [part([1, 2, 3], 3), part([4, 1000, float("nan")], 1)]
    assert validation_loss(TokensAreLosses(), parts) == 2.5


def test_ten_million_losses_keep_their_digits() -> None:
    losses = torch.full((1_000_000,), 3.2801)
    parts = [Part(losses, losses, losses, 1_000_000)] * 10
    assert validation_loss(TokensAreLosses(), parts) == pytest.approx(float(losses[0]), abs=1e-12)
