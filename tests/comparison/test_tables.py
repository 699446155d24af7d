import pytest

from ramengpt.comparison.runs import ComparedRun
from ramengpt.comparison.tables import first_at_most, params_table, reached_table, results_table
from tests.comparison.made_up import compared


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


def test_a_parameter_that_a_run_does_not_depend_on_is_a_dash():
    first = compared("a", [5.0], **{"optimizer": "adam", "optimizers.adam.lr": 0.1, "seed": 1})
    other = compared("b", [5.0], **{"optimizer": "bam", "seed": 1})
    table = params_table([first, other])
    assert table.header == ["parameter", "a", "b"]
    assert table.rows == [["optimizer", "adam", "bam"], ["optimizers.*.lr", "0.1", "-"]]


def test_a_measurement_that_a_run_lacks_is_a_dash():
    (row,) = results_table([ComparedRun("a", {"validation.loss": 5.0}, {}, [], [])]).rows
    assert row == ["a", "5.0000", *["-"] * 7]
