import pytest

from ramengpt.comparison.runs import ComparedRun
from ramengpt.comparison.statistics import mean_of, paired_t
from ramengpt.comparison.tables import first_at_most, params_table, reached_table, results_table
from tests.comparison.made_up import compared, grouped


def test_differences_are_from_the_first_run():
    table = results_table(
        grouped(compared("a", [6.0, 5.0]), compared("b", [6.0, 4.5], seconds=150.0))
    )
    loss, delta, seconds = (table.header.index(name) for name in ("validation loss", "Δ", "time"))
    assert [row[loss] for row in table.rows] == ["5.0000", "4.5000"]
    assert [row[delta] for row in table.rows] == ["-", "-0.5000"]
    assert [row[seconds + 1] for row in table.rows] == ["-", "+50.0%"]


def test_where_a_loss_was_reached_is_interpolated():
    runs = [compared("a", [6.0, 5.0]), compared("b", [6.0, 4.5]), compared("c", [6.0, 5.5])]
    steps = [row[1] for row in reached_table(grouped(*runs)).rows]
    assert steps == ["20", "17", "-"]
    row = first_at_most(runs[1].validation, 5.0)
    assert row is not None
    assert row["tokens"] == pytest.approx(1000 + 1000 * (1.0 / 1.5)) and row["loss"] == 5.0


def test_a_single_run_has_nothing_to_reach():
    assert reached_table(grouped(compared("a", [5.0]))).rows == []


def test_a_parameter_that_a_run_does_not_depend_on_is_a_dash():
    first = compared("a", [5.0], **{"optimizer": "adam", "optimizers.adam.lr": 0.1, "seed": 1})
    other = compared("b", [5.0], **{"optimizer": "bam", "seed": 1})
    table = params_table(grouped(first, other))
    assert table.header == ["parameter", "a", "b"]
    assert table.rows == [["optimizer", "adam", "bam"], ["optimizers.*.lr", "0.1", "-"]]


def test_a_measurement_that_a_run_lacks_is_a_dash():
    (row,) = results_table(grouped(ComparedRun("a", {"validation.loss": 5.0}, {}, [], []))).rows
    assert row == ["a", "5.0000", *["-"] * 8]


ADAM = {1: 5.00, 2: 5.10, 3: 5.30}
BAM = {1: 4.90, 2: 5.05, 3: 5.10}


def group_of(name: str, losses: dict[int, float]) -> list[ComparedRun]:
    return [
        compared(f"{name}-{seed}", [6.0, loss], seconds=100.0 * seed, optimizer=name, seed=seed)
        for seed, loss in losses.items()
    ]


def test_groups_are_tested_pair_by_pair_and_by_holms_method():
    muon = {seed: loss - 1 for seed, loss in ADAM.items()}
    runs = [*group_of("adam", ADAM), *group_of("bam", BAM), *group_of("muon", muon)]
    table = results_table(grouped(*runs))
    column = {name: table.header.index(name) for name in ("runs", "validation loss", "Δ", "p")}
    found = {row[0]: {name: row[at] for name, at in column.items()} for row in table.rows}
    expected = mean_of(list(ADAM.values()), 0.95)
    assert found["adam"] == {
        "runs": "3",
        "validation loss": f"{expected.value:.4f} ± {expected.half_width:.4f}",
        "Δ": "-",
        "p": "-",
    }
    difference = paired_t(BAM, ADAM, 0.95)
    assert found["bam"]["Δ"] == f"{difference.value:+.4f} ± {difference.half_width:.4f}"
    assert found["bam"]["p"] == f"{difference.p_value:.4f}"  # the largest of two
    assert found["muon"]["Δ"] == "-1.0000 ± 0.0000" and found["muon"]["p"] == "< 0.0001"
    assert [row[table.header.index("time")] for row in table.rows] == ["3 min 20 s"] * 3


def test_a_mean_curve_says_when_a_group_reaches_the_baseline():
    groups = grouped(*group_of("adam", ADAM), *group_of("bam", BAM))
    table = reached_table(groups)
    assert table.header[0] == "validation loss 5.1333 after"
    mean = sum(BAM.values()) / 3
    steps = 10 + 10 * (6 - sum(ADAM.values()) / 3) / (6 - mean)
    assert [row[1] for row in table.rows] == ["20", f"{steps:.0f}"]


def test_seeds_are_shown_of_groups_that_have_different_ones():
    adam, bam = group_of("adam", ADAM), group_of("bam", BAM)
    assert params_table(grouped(*adam, *bam)).rows == [["optimizer", "adam", "bam"]]
    rows = params_table(grouped(*adam, *bam[:2])).rows
    assert ["seed", "1, 2, 3", "1, 2"] in rows
