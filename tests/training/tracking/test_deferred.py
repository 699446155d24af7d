"""Rows come back whole, in order, each once, and never before their values are known."""

import pytest
import torch

from ramengpt.training.tracking import deferred
from ramengpt.training.tracking.deferred import DeferredRows

NEVER = 1e9


class DeviceThatIsBehind:
    """Stands for CUDA's events: copies are complete only once the device has caught up."""

    caught_up = False
    waited = 0

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return DeviceThatIsBehind.caught_up

    def synchronize(self) -> None:
        DeviceThatIsBehind.waited += not DeviceThatIsBehind.caught_up


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[DeviceThatIsBehind]:
    monkeypatch.setattr(DeviceThatIsBehind, "caught_up", False)
    monkeypatch.setattr(DeviceThatIsBehind, "waited", 0)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", DeviceThatIsBehind)
    return DeviceThatIsBehind


def losses(rows: list[deferred.Row]) -> list[float]:
    return [row.values["loss"] for row in rows]


def test_without_a_gpu_a_row_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    rows = DeferredRows(100, NEVER)
    loss = torch.tensor([2.5])
    rows.put("train", {"step": 1, "loss": loss, "seconds": lambda: 0.25})
    loss.fill_(9)  # the memory may be reused
    (row,) = rows.take()
    assert (row.table, row.values) == ("train", {"step": 1, "loss": 2.5, "seconds": 0.25})
    assert rows.take() == []


def test_rows_wait_for_a_full_transfer_and_for_the_device(device) -> None:
    rows = DeferredRows(3, NEVER)
    for step in range(7):
        rows.put("train", {"loss": float(step)})
    assert rows.take() == []
    device.caught_up = True
    assert losses(rows.take()) == [0, 1, 2, 3, 4, 5]  # the seventh fills no transfer
    assert rows.take() == []
    assert losses(rows.take(wait=True)) == [6]


def test_time_that_has_passed_starts_a_transfer_too(device) -> None:
    device.caught_up = True
    rows = DeferredRows(1000, 0.0)
    rows.put("train", {"loss": 1.0})
    assert losses(rows.take()) == [1]


def test_waiting_gives_back_everything(device) -> None:
    rows = DeferredRows(2, NEVER)
    for step in range(3):
        rows.put("train", {"loss": float(step)})
    assert losses(rows.take(wait=True)) == [0, 1, 2]
    assert device.waited == 2


def test_a_function_is_called_once_the_device_has_passed(device) -> None:
    calls = []
    rows = DeferredRows(1, NEVER)
    rows.put("train", {"loss": lambda: calls.append(1) or 4.0})
    assert rows.take() == [] and not calls
    device.caught_up = True
    assert losses(rows.take()) == [4.0] and calls == [1]


@pytest.mark.gpu
def test_values_on_the_gpu_are_those_at_the_time_of_logging() -> None:
    rows = DeferredRows(4, NEVER)
    loss, norm = torch.zeros(1, device="cuda"), torch.zeros((), device="cuda")
    for step in range(10):
        loss.fill_(step)
        norm.fill_(-step)
        rows.put("train", {"norm": norm, "step": step, "loss": loss})
    expected = [{"norm": -float(step), "step": step, "loss": float(step)} for step in range(10)]
    assert [row.values for row in rows.take(wait=True)] == expected
