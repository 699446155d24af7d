"""The page of cards: up to date, and true of faked devices."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.cards import CARDS, PAGE, page
from ramengpt.device import Profile, profile
from ramengpt.kernels.support import supports_kernels
from ramengpt.training.micro_batch import runs_compiled


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(PAGE.read_text()), "run `python -m benchmarks.cards`"


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_device_that_reports_these_numbers_is_described_so(
    card: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    major, minor = card.capability
    reported = SimpleNamespace(
        major=major, minor=minor, name=card.name, total_memory=card.memory_bytes
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: reported)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.version, "hip", "6.4" if card.architecture == "amd" else None)
    device = torch.device("cuda", 0)
    found = profile(device)
    assert found.memory_bytes == card.memory_bytes and found.bfloat16 == card.bfloat16
    assert (found.architecture == "amd") == (card.architecture == "amd")
    assert runs_compiled(card) == supports_kernels(device)
