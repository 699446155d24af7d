"""Smear and skip connection against their equations, a token at a time."""

import math

import pytest
import torch

from ramengpt.model.attention_backend import PackedContext
from ramengpt.model.gates import SkipConnection, Smear
from ramengpt.model.rope import Rotary
from tests.model.tiny import packed, tiny_config


def sigmoid(x: torch.Tensor | float) -> float:
    return 1 / (1 + math.exp(-float(x)))


def filled(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(2)
    for parameter in module.double().parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module


def embeddings(num_tokens: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(num_tokens, 32, generator=generator, dtype=torch.float64)


@torch.no_grad()
def test_smear_adds_the_embedding_before_within_a_document() -> None:
    _, _, positions_T = packed([3, 1, 5])
    config = tiny_config()
    context = PackedContext(positions_T, Rotary(config, 64), (), "sdpa", None)
    smear, e_TD = filled(Smear(config)), embeddings(9)
    smeared_TD = smear(e_TD, context)
    for t, position in enumerate(positions_T.tolist()):
        opened = sigmoid(smear.gate[0] @ e_TD[t, :12])
        added = smear.smear_lambda * opened * e_TD[t - 1] if position else torch.zeros(32)
        torch.testing.assert_close(smeared_TD[t], e_TD[t] + added)


@torch.no_grad()
def test_the_skip_gate_reads_the_leading_entries_of_the_embedding() -> None:
    skip, x0_TD = filled(SkipConnection(tiny_config())), embeddings(6)
    open_T1 = skip(x0_TD)
    assert open_T1.shape == (6, 1)
    for t in range(6):
        expected = sigmoid(skip.skip_lambda) * 2 * sigmoid(skip.gate[0] @ x0_TD[t, :12])
        assert open_T1[t].item() == pytest.approx(expected, rel=1e-12)
    x0_TD[:, 12:] = 0
    assert torch.equal(skip(x0_TD), open_T1)
