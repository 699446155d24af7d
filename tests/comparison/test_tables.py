import math

import pytest

from ramengpt.comparison.pictures import loss_pictures, smoothed
from ramengpt.comparison.runs import ComparedRun, flatten, params_that_differ
from ramengpt.comparison.tables import first_at_most, params_table, reached_table, results_table


def compared(
    name: str, losses: list[float], seconds: float = 100.0, **params: object
) -> ComparedRun:
    rows = [{"step": 10 * n, "tokens": 1000 * n, "loss": loss} for n, loss in enumerate(losses, 1)]
    metrics = {"validation.loss": losses[-1], "seconds": seconds}
    return ComparedRun(name, metrics, params, rows, rows)


def test_differences_are_from_the_first_run():
    table = results_table([compared("a", [6.0, 5.0]), compared("b", [6.0, 4.5], seconds=150.0)])
    loss, delta, seconds = (table.header.index(name) for name in ("validation loss", "Δ", "time"))
    assert [row[loss] for row in table.rows] == ["5.0000", "4.5000"]
    assert [row[delta] for row in table.rows] == ["-", "-0.5000"]
    assert [row[seconds + 1] for row in table.rows] == ["-", "+50.0%"]


def test_where_a_loss_was_reached_is_interpolated():
    runs = [compared("a", [6.0, 5.0]), compared("b", [6.0, 4.5]), compared("c", [6.0, 5.5])]
    steps = [row[1] for row in reached_table(runs).rows]
    assert steps == ["20", "17", "-"]
    row = first_at_most(runs[1].validation, 5.0)
    assert row is not None
    assert row["tokens"] == pytest.approx(1000 + 1000 * (1.0 / 1.5)) and row["loss"] == 5.0


def test_a_single_run_has_nothing_to_reach():
    assert reached_table([compared("a", [5.0])]).rows == []


def test_only_params_that_differ_are_listed():
    first = compared("a", [5.0], **{"optimizer": "adam", "optimizers.adam.lr": 0.1, "seed": 1})
    other = compared("b", [5.0], **{"optimizer": "bam", "seed": 1})
    assert params_that_differ([first, other]) == {
        "optimizer": ["adam", "bam"],
        "optimizers.*.lr": [0.1, None],
    }
    assert params_table([first, other]).rows[1] == ["optimizers.*.lr", "0.1", "-"]


def test_selected_entries_of_a_table_lie_side_by_side():
    first = compared("a", [5.0], **{"optimizer": "adam", "optimizers.adam.lr": 0.1})
    other = compared("b", [5.0], **{"optimizer": "bam", "optimizers.bam.lr": 0.2, "datasets.x": 1})
    assert params_that_differ([first, other]) == {
        "optimizer": ["adam", "bam"],
        "optimizers.*.lr": [0.1, 0.2],
        "datasets.x": [None, 1],
    }


def test_flatten_joins_keys_with_dots():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": 3}) == {"a.b": 1, "a.c.d": [2], "e": 3}


def test_smoothing_thins_long_curves_and_keeps_the_mean():
    rows = [{"step": step, "loss": float(step % 2)} for step in range(1, 20_001)]
    points = smoothed(rows)
    assert len(points) <= 1500
    assert all(abs(point["loss"] - 0.5) < 0.01 for point in points)
    assert smoothed(rows[:3]) == rows[:3] and smoothed([]) == []


def test_pictures_are_drawn_of_short_and_of_diverged_runs():
    runs = [compared("short", [5.0]), compared("diverged", [6.0, math.nan, math.inf])]
    pictures = loss_pictures([*runs, ComparedRun("empty", {}, {}, [], [])])
    assert [picture.name for picture in pictures] == ["loss_by_step.svg", "loss_by_tokens.svg"]
    assert all(picture.svg.startswith(b"<?xml") for picture in pictures)
    assert pictures == loss_pictures([*runs, ComparedRun("empty", {}, {}, [], [])])


def test_the_first_step_of_a_run_which_compiles_moves_no_curve():
    def drawn(first_seconds: float) -> bytes:
        rows = [{"seconds": first_seconds + n, "loss": 5.0 - n} for n in range(3)]
        (picture,) = loss_pictures([ComparedRun("a", {}, {}, rows, rows[1:])])
        return picture.svg

    assert drawn(30.0) == drawn(1.0)
