"""The sweep runs each point once, goes on where it stopped, and marks each optimizer's best."""

from pathlib import Path

import pytest

from benchmarks import learning_rate_sweep
from benchmarks.learning_rate_sweep import Point, grid, sweep, table


def test_grid_multiplies_each_optimizers_own_learning_rate() -> None:
    settings = ["optimizers.adam.learning_rate=0.003", "optimizers.bam.learning_rate=0.01"]
    points = grid(["adam", "bam"], [0.5, 1.0], [7], settings)
    expected = [("adam", 0.0015), ("adam", 0.003), ("bam", 0.005), ("bam", 0.01)]
    assert points == [Point(optimizer, rate, 7) for optimizer, rate in expected]


def test_table_marks_the_best_mean_and_a_rate_with_a_failed_run() -> None:
    losses = {
        Point("adam", 0.002, 1): 3.5,
        Point("adam", 0.002, 2): 3.7,
        Point("adam", 0.001, 1): 4.0,
        Point("adam", 0.004, 1): 3.0,
        Point("adam", 0.004, 2): None,
    }
    assert table(losses).splitlines()[2:] == [
        "| adam | 0.001 | 4.0000 | 1 |",
        "| adam | 0.002 | **3.6000 ± 0.1414** | 2 |",
        "| adam | 0.004 | failed | |",
    ]


def test_finished_runs_are_not_repeated(tmp_path: Path, monkeypatch) -> None:
    started: list[str] = []

    def run(point: Point, settings: list[str], folder: Path) -> float:
        started.append(point.name)
        return point.learning_rate

    monkeypatch.setattr(learning_rate_sweep, "run_point", run)
    first, second = Point("adam", 0.001, 1), Point("adam", 0.002, 1)
    sweep([first], ["seed=1"], tmp_path)
    assert sweep([first, second], ["seed=1"], tmp_path) == {first: 0.001, second: 0.002}
    assert started == [first.name, second.name]
    with pytest.raises(ValueError, match="give another --out"):
        sweep([first], ["seed=2"], tmp_path)
