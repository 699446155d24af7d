"""The micro-batch that is suggested for a card."""

import pytest
import torch

from ramengpt.config import load_config
from ramengpt.device import Profile
from ramengpt.errors import UserError
from ramengpt.model.cost import training_bytes
from ramengpt.training import micro_batch
from ramengpt.training.micro_batch import suggested_micro_batch


def card(memory_gib: float) -> Profile:
    return Profile("ampere", "A Card", (8, 0), 166_912, int(memory_gib * 2**30), bfloat16=True)


def test_the_suggested_micro_batch_fits_and_no_larger_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = load_config(["model=base", "schedule=base"])
    found = []
    for memory_gib in (8, 24):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(micro_batch, "profile", lambda _, gib=memory_gib: card(gib))
        line = suggested_micro_batch(config)
        assert line.endswith(
            " tokens should fit A Card; schedules.base.micro_batch_tokens of params.yaml is "
            f"{config.schedule.micro_batch_tokens}"
        )
        tokens = int(line.split()[0])
        assert tokens % max(config.schedule.sequence.tokens) == 0
        fits = [
            training_bytes(config.network, some, torch.bfloat16) < memory_gib * 2**30
            for some in (tokens, 2 * tokens)
        ]
        assert fits == [True, False]
        found.append(tokens)
    assert found[0] < found[1]


def test_a_card_that_is_too_small_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(micro_batch, "profile", lambda _: card(0.5))
    with pytest.raises(UserError, match=r"params.yaml: micro_batch_tokens: even \d+ tokens"):
        suggested_micro_batch(load_config(["model=medium", "schedule=medium"]))


def test_without_a_gpu_there_is_nothing_to_suggest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="found no GPU"):
        suggested_micro_batch(load_config())
