"""The printed schedule and its file say what the plans say."""

import csv
from pathlib import Path

from ramengpt.training.schedule.plan import plan_run
from ramengpt.training.schedule.plan_table import plan_phases, plan_table, write_plan
from tests.training.schedule.test_plan import MOMENTUM, schedule


def test_phases_begin_at_transitions_and_lose_no_step() -> None:
    plans = plan_run(schedule(), MOMENTUM)
    phases = plan_phases(plans)
    assert [phase[0].step for phase in phases] == [0, 10, 12, 20, 24, 30, 40]
    assert [plan for phase in phases for plan in phase] == list(plans)


def test_table_has_a_row_for_each_phase_and_the_total() -> None:
    plans = plan_run(schedule(), MOMENTUM)
    lines = plan_table(plans).splitlines()
    assert len(lines) == 2 + 7 + 2
    assert {line.count("|") for line in lines[:9]} == {11}
    cells = [cell.strip() for cell in lines[2 + 3].split("|")]
    assert cells[1:5] == ["20-23", "1,024", "4", "256"]
    assert cells[8] == "tied"
    assert lines[-1] == "50 steps, 58,880 tokens"


def test_ramps_show_both_ends() -> None:
    table = plan_table(plan_run(schedule(batch__shape="linear"), MOMENTUM))
    assert "256 to 512" in table


def test_file_has_one_row_for_each_step(tmp_path: Path) -> None:
    plans = plan_run(schedule(), MOMENTUM)
    write_plan(plans, tmp_path / "results" / "plan.csv")
    rows = list(csv.DictReader((tmp_path / "results" / "plan.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(50))
    assert int(rows[-1]["tokens"]) == 58880
    for row, plan in zip(rows, plans, strict=True):
        assert int(row["batch_tokens"]) == plan.tokens
        assert int(row["window_tokens"]) == plan.window_tokens
        assert float(row["learning_rate_multiplier"]) == float(
            f"{plan.learning_rate_multiplier:.6g}"
        )
        assert row["scalars_frozen"] == str(int(plan.scalars_frozen))
