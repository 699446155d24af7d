"""The sweep runs each point once, resumes where it stopped, and marks each optimizer's best."""

from pathlib import Path

import pytest

from benchmarks import learning_rate_sweep, run_pool
from benchmarks.learning_rate_sweep import Point, grid, sweep, table
from benchmarks.run_pool import command_of
from tests.benchmarks.fake_runs import be_fake, started


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


def test_finished_runs_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be_fake(monkeypatch)
    first, second = Point("adam", 0.001, 1), Point("adam", 0.002, 1)
    sweep([first], ["loss=3.25"], tmp_path, 1)
    found = sweep([second, first], ["loss=3.25"], tmp_path, 1)
    assert list(found.items()) == [(second, 3.25), (first, 3.25)]
    assert started(tmp_path) == [first.name, second.name]
    with pytest.raises(ValueError, match="give another --out"):
        sweep([first], ["loss=2"], tmp_path, 1)


def test_a_point_is_trained_with_its_rate_and_seed_and_without_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def keep(run: object, options: object) -> list[str]:
        commands.append(command_of(run, options))
        return ["false"]

    monkeypatch.setattr(run_pool, "command_of", keep)
    point = Point("bam", 0.01, 3)
    assert learning_rate_sweep.sweep([point], ["model=base"], tmp_path, 1) == {point: None}
    (words,) = commands
    assert words[1:5] == ["-m", "pipeline.train", "--out", str(tmp_path / "bam-0.01-3")]
    assert words[5:7] == ["--seed", "3"]
    settings = ["tracking.wandb=disabled", "model=base"]
    settings += ["optimizer=bam", "optimizers.bam.learning_rate=0.01"]
    assert words[7:] == [word for setting in settings for word in ("--set", setting)]
