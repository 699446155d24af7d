"""Validation counts each token once and no padding."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ramengpt.data.batches.batcher import BatchRequest
from ramengpt.data.batches.loader import validation_batches
from ramengpt.data.batches.validation_stream import ValidationStream
from ramengpt.data.shards.format import BOS_TOKEN
from ramengpt.inference.held_out_loss import bits_per_byte, validation_loss
from tests.data.make_shards import indexed, random_tokens
from tests.inference.tiny_weights import tiny_model


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
    assert validation_loss(TokensAreLosses(), parts).loss == 2.5


def test_ten_million_losses_keep_their_digits() -> None:
    losses = torch.full((1_000_000,), 3.2801)
    parts = [Part(losses, losses, losses, 1_000_000)] * 10
    found = validation_loss(TokensAreLosses(), parts)
    assert found.loss == pytest.approx(float(losses[0]), abs=1e-12)


def test_the_loss_does_not_depend_on_the_size_of_micro_batches() -> None:
    """To float64 accuracy; packing that cut documents at their ends would cost percents."""
    model = tiny_model().double()
    model.compute_dtype = torch.float64
    shards = [indexed(random_tokens(seed, 300, mean_document_tokens=30)) for seed in range(2)]
    stream = ValidationStream(shards, 400)

    def loss(num_tokens: int) -> float:
        batches = validation_batches(stream, BatchRequest(num_tokens, 64), torch.device("cpu"))
        return validation_loss(model, batches).loss

    expected = loss(512)
    for num_tokens in (64, 65, 100, 257, 399):
        assert loss(num_tokens) == pytest.approx(expected, rel=1e-12)


def test_bits_per_byte_leave_out_the_tokens_that_open_documents() -> None:
    opening = float(BOS_TOKEN)
    parts = [part([2.0, opening, 3.0], 3), part([4.0, 1000.0], 1)]
    text_nats = validation_loss(TokensAreLosses(), parts).text_nats
    assert text_nats == 2 + 3 + 4
    assert bits_per_byte(text_nats, 6) == pytest.approx(1.5 / math.log(2))
    assert bits_per_byte(0.0, 0) == math.inf
