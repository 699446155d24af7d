import json
import math
from pathlib import Path

import pytest
import torch

from ramengpt.config.tracking import TrackingConfig
from ramengpt.training.tracking import tracker
from ramengpt.training.tracking.log_table import LogTable
from ramengpt.training.tracking.tracker import Tracker


@pytest.fixture(autouse=True)
def no_wandb(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")


def start(directory: Path, state: dict[str, str] | None = None, every: int = 10) -> Tracker:
    config = TrackingConfig(
        wandb="disabled", wandb_project="p", log_every_steps=every, write_every_seconds=0.01
    )
    return Tracker(directory, config, "adam-0", {}, wandb_directory=directory, state=state or {})


def train_row(step: int) -> dict[str, float | torch.Tensor]:
    return {"loss": torch.tensor(1 / step), "tokens": 100 * step, "seconds": 0.5 * step}


def log_steps(tracker: Tracker, first: int, last: int) -> None:
    for step in range(first, last + 1):
        tracker.log(step, train_row(step))


def test_files_hold_every_row_in_order(tmp_path):
    tracker = start(tmp_path)
    log_steps(tracker, 1, 25)
    tracker.log(25, {"tokens": 2500, "seconds": 12.5, "loss": 3.5}, table="validation")
    tracker.close()
    lines = (tmp_path / "train.tsv").read_text().splitlines()
    assert lines[0] == "step\tloss\ttokens\tseconds"
    assert [int(line.split("\t")[0]) for line in lines[1:]] == list(range(1, 26))
    losses = [torch.tensor(float(line.split("\t")[1])) for line in lines[1:]]
    assert all(loss == torch.tensor(1 / step) for step, loss in enumerate(losses, 1))
    validation = (tmp_path / "validation.tsv").read_text()
    assert validation == "step\ttokens\tseconds\tloss\n25\t2500\t12.5\t3.5\n"


def test_metrics_are_few_and_nested(tmp_path):
    tracker = start(tmp_path)
    tracker.log(
        4, {"loss": 2.5, "tokens": 400, "seconds": 2.0, "mfu": 0.25, "peak_memory_gib": 1.5}
    )
    tracker.log(4, {"loss": 3.0}, table="validation")
    tracker.close()
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "finished": False,
        "run": "adam-0",
        "validation": {"loss": 3.0},
        "train": {"loss": 2.5},
        "step": 4,
        "tokens": 400,
        "seconds": 2.0,
        "speed": {"mfu": 0.25, "peak_memory_gib": 1.5, "tokens_per_second": 200.0},
    }


def test_the_steady_speed_ignores_steps_that_compile(tmp_path):
    tracker = start(tmp_path)
    for step, speed in enumerate([10.0, 200.0, 220.0, 20.0, 210.0], start=1):
        tracker.log(step, train_row(step) | {"tokens_per_second": speed})
        assert ("steady_tokens_per_second" in tracker.metrics()["speed"]) == (step > 1)
    tracker.close()
    speed = json.loads((tmp_path / "metrics.json").read_text())["speed"]
    assert speed == {"tokens_per_second": 200.0, "steady_tokens_per_second": 205.0}


def test_a_resumed_run_has_no_row_twice(tmp_path):
    whole = start(tmp_path / "whole")
    log_steps(whole, 1, 30)
    whole.close()
    killed = start(tmp_path / "killed")
    log_steps(killed, 1, 12)
    checkpoint = killed.state()
    log_steps(killed, 13, 20)
    killed.flush()
    resumed = start(tmp_path / "killed", checkpoint)
    assert (tmp_path / "killed" / "train.tsv").read_text() == checkpoint["train"]
    log_steps(resumed, 13, 30)
    resumed.close()
    for name in ("train.tsv", "validation.tsv", "metrics.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_state_survives_a_checkpoint_file(tmp_path):
    tracker = start(tmp_path)
    log_steps(tracker, 1, 3)
    torch.save(tracker.state(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == tracker.state()


def test_rows_come_back_once_and_at_once_without_a_gpu(tmp_path):
    tracker = start(tmp_path)
    returned = [tracker.log(step, train_row(step)) for step in (1, 2)]
    assert [[row["step"] for _, row in rows] for rows in returned] == [[1], [2]]
    assert returned[1][0][1]["loss"] == 0.5
    assert tracker.flush() == tracker.close() == []


def test_functions_are_called_in_order(tmp_path):
    calls = []

    def measure(name: str) -> float:
        calls.append(name)
        return len(calls)

    row = {"first": lambda: measure("first"), "second": lambda: measure("second")}
    ((table, known),) = start(tmp_path).log(1, row)
    assert (table, known) == ("train", {"step": 1, "first": 1, "second": 2})


def test_files_are_rewritten_during_the_run_but_not_at_every_step(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(tracker.time, "monotonic", lambda: now[0])
    writes = []
    monkeypatch.setattr(tracker, "write_bytes", lambda path, content: writes.append(path.name))
    followed = start(tmp_path, every=1)
    writes.clear()
    followed._write_every_seconds = 2.0
    for step in range(1, 101):
        now[0] += 0.1
        followed.log(step, train_row(step))
    assert writes.count("train.tsv") == 5


@pytest.mark.gpu
def test_device_values_arrive_without_a_synchronisation(tmp_path):
    tracker = start(tmp_path, every=4)
    values = torch.arange(1, 41, device="cuda", dtype=torch.float32)
    reused = torch.zeros((), device="cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        returned = []
        for step in range(1, 41):
            reused.copy_(values[step - 1])
            row = {"loss": reused, "norm": values[step - 1].bfloat16(), "tokens": step}
            returned += tracker.log(step, row)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    returned += tracker.flush()
    assert [(row["step"], row["loss"]) for _, row in returned] == [(n, n) for n in range(1, 41)]


def test_columns_that_come_late_leave_earlier_cells_empty():
    table = LogTable()
    table.append({"step": 1, "loss": 2.0})
    table.append({"step": 2, "loss": 1.0, "mfu": 0.5})
    table.append({"step": 3, "mfu": 0.25})
    assert table.text() == "step\tloss\tmfu\n1\t2\t\n2\t1\t0.5\n3\t\t0.25\n"
    again = LogTable(table.text())
    assert again.text() == table.text()
    assert again.last == {"step": 3, "mfu": 0.25}


def test_a_table_keeps_float32_and_large_integers_exactly():
    table = LogTable()
    loss = torch.rand(()).item()
    table.append({"tokens": 123456789012345, "loss": loss, "odd": math.inf})
    (row,) = LogTable(table.text()).rows()
    assert row["tokens"] == 123456789012345 and row["odd"] == math.inf
    assert torch.tensor(row["loss"]) == torch.tensor(loss)
