"""Runs side by side take a card each; the cards are faked, the processes are real."""

from pathlib import Path
from subprocess import Popen

import pytest
import torch

from ramengpt.training.session import own_device
from ramengpt.training.session.own_device import held_card
from tests.training.session.holder import hold_elsewhere

CARDS = {0: "card-a", 1: "card-b"}


def hold_card_elsewhere(cards: dict[int, str], folder: Path) -> tuple[Popen[str], int]:
    """Start a process that holds a card; give back the process and the card's index."""
    process, card = hold_elsewhere("own_device", f"held_card({cards!r}, Path({str(folder)!r}))")
    return process, int(card)


def test_every_run_has_a_card_of_its_own_and_the_third_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_device, "POLL_SECONDS", 0.01)
    first, first_card = hold_card_elsewhere(CARDS, tmp_path)
    second, second_card = hold_card_elsewhere(CARDS, tmp_path)
    said = []

    def end_second(line: str) -> None:
        said.append(line)
        second.kill()

    monkeypatch.setattr(own_device, "say", end_second)
    try:
        assert {first_card, second_card} == {0, 1}
        with held_card(CARDS, tmp_path) as index:
            assert second.wait() != 0
            assert index == second_card
        assert said == ["all 2 GPUs are taken by other runs; waiting for one to end"]
    finally:
        first.kill()
        second.kill()
        first.wait()
        second.wait()


def test_a_process_that_sees_one_card_under_another_number_takes_the_same_lock(
    tmp_path: Path,
) -> None:
    with held_card(CARDS, tmp_path) as index:
        assert index == 0
        with held_card({0: "card-b"}, tmp_path) as other:  # CUDA_VISIBLE_DEVICES=1
            assert other == 0
        other_process, card = hold_card_elsewhere({0: "card-a", 1: "card-b"}, tmp_path)
        other_process.kill()
        other_process.wait()
        assert card == 1


def test_the_cards_are_those_that_cuda_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Properties:
        def __init__(self, index: int) -> None:
            self.uuid = f"uuid-{index}"

    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", Properties)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(own_device, "lock_folder", lambda: tmp_path)
    with own_device.own_device() as first, own_device.own_device() as second:
        assert (first, second) == (torch.device("cuda", 0), torch.device("cuda", 1))
    assert current == [0, 1]
    assert {path.name for path in tmp_path.iterdir()} >= {"uuid-0.lock"}


def test_without_a_gpu_runs_share_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with own_device.own_device() as first, own_device.own_device() as second:
        assert first == second == torch.device("cpu")


def test_a_scratch_run_shares_its_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(own_device, "lock_folder", lambda: tmp_path)
    with own_device.shared_device() as first, own_device.shared_device() as second:
        assert first == second
    assert not list(tmp_path.iterdir())
