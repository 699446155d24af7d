"""Which runs are one group, and their mean curve."""

import math

import pytest

from ramengpt.comparison.groups import first_step_seconds, group_runs, mean_curve
from tests.comparison.made_up import compared


def names(*runs) -> list[tuple[str, list[str]]]:
    return [(group.name, [run.name for run in group.runs]) for group in group_runs(runs)]


def test_runs_that_differ_in_the_seed_only_are_one_group_in_any_order() -> None:
    runs = [
        compared("adam-1", [5.0], optimizer="adam", seed=1, data_path="", environments=[{"a": 1}]),
        compared("bam-1", [4.0], optimizer="bam", seed=1),
        compared("adam-12", [5.1], optimizer="adam", seed=12, data_path="/d", environments=[]),
        compared("bam-2", [4.1], optimizer="bam", seed=2),
    ]
    assert names(*runs) == [("adam", ["adam-1", "adam-12"]), ("bam", ["bam-1", "bam-2"])]
    group = group_runs(runs)[0]
    assert group.by_seed("validation.loss") == {1: 5.0, 12: 5.1}
    assert group.mean("validation.loss") == pytest.approx(5.05)
    assert (group.mean("nothing"), group.seeds()) == (None, "1, 12")


def test_the_same_run_twice_is_not_a_group_and_neither_are_runs_without_a_seed() -> None:
    again = [compared(name, [5.0], optimizer="adam", seed=1) for name in ("HEAD", "workspace")]
    assert names(*again) == [("HEAD", ["HEAD"]), ("workspace", ["workspace"])]
    unseeded = [compared(name, [5.0]) for name in ("a", "b")]
    assert names(*unseeded) == [("a", ["a"]), ("b", ["b"])]
    mixed = [compared("a", [5.0]), compared("b", [5.0], seed=1)]
    assert names(*mixed) == [("a", ["a"]), ("b", ["b"])]


def test_names_stay_apart() -> None:
    runs = [
        compared(name, [5.0], optimizer=optimizer, seed=seed)
        for name, optimizer, seed in [("x-1", "a", 1), ("x-2", "a", 2), ("x-3", "b", 1),
                                      ("x-4", "b", 2), ("p", "c", 1), ("q", "c", 2)]
    ]  # fmt: skip
    assert [name for name, _ in names(*runs)] == ["x-1", "x-3", "p"]


def test_a_mean_curve_of_equal_steps_is_the_mean_of_every_column() -> None:
    curves = [
        [{"step": 10.0 * n, "seconds": n * speed, "loss": 6.0 - n * speed} for n in (1, 2, 3)]
        for speed in (1.0, 2.0)
    ]
    found = mean_curve(curves)
    assert [row["step"] for row in found] == [10, 20, 30]
    assert [row["seconds"] for row in found] == [1.5, 3.0, 4.5]
    assert [row["loss"] for row in found] == [4.5, 3.0, 1.5]
    assert [row["loss_deviation"] for row in found] == pytest.approx(
        [n / math.sqrt(2) for n in (1, 2, 3)]
    )


def test_other_steps_are_interpolated_where_all_have_values() -> None:
    first = [{"step": step, "loss": 10.0 - step} for step in (1.0, 2.0, 3.0, 9.0)]
    second = [{"step": step, "loss": 10.0 - step, "mfu": 1.0} for step in (1.5, 2.5, 3.5)]
    assert [(row["step"], row["loss"]) for row in mean_curve([first, second])] == [(2, 8), (3, 7)]
    assert mean_curve([first, []]) == first and mean_curve([]) == []


def test_the_first_step_of_a_group_is_the_mean_of_its_runs() -> None:
    runs = [compared(f"a{seed}", [5.0], seed=seed) for seed in (1, 2)]
    for run, seconds in zip(runs, (10.0, 30.0), strict=True):
        run.train[0]["seconds"] = seconds
    (group,) = group_runs(runs)
    assert first_step_seconds(group) == 20.0
