"""Which devices run the kernels, with faked cards."""

from types import SimpleNamespace

import pytest
import torch

from ramengpt.device import profile
from ramengpt.kernels.support import runs_kernels, supports_kernels

CUDA = torch.device("cuda", 0)


def fake_card(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], hip: str | None = None
) -> None:
    major, minor = capability
    properties = SimpleNamespace(major=major, minor=minor, name="a card", total_memory=16 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.version, "hip", hip)


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((12, 0), True)]
)
def test_nvidia_cards_from_ampere_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: bool
) -> None:
    fake_card(monkeypatch, capability)
    assert supports_kernels(CUDA) is expected


@pytest.mark.parametrize("capability", [(9, 4), (10, 3), (11, 0), (12, 0)])
def test_amd_is_amd_whatever_its_numbers_mean_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]
) -> None:
    fake_card(monkeypatch, capability, hip="6.4")
    found = profile(CUDA)
    assert (found.architecture, found.bfloat16) == ("amd", True)
    assert not supports_kernels(CUDA)


def test_the_cpu_and_float16_take_plain_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not supports_kernels(torch.device("cpu"))
    assert not runs_kernels(torch.zeros(1))
    fake_card(monkeypatch, (9, 0))
    on_card = SimpleNamespace(is_cuda=True, device=CUDA, dtype=torch.bfloat16)
    assert runs_kernels(on_card)  # type: ignore[arg-type]
    on_card.dtype = torch.float16
    assert not runs_kernels(on_card)  # type: ignore[arg-type]
