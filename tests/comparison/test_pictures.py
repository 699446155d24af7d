"""Curves are drawn of whatever a run has, without misleading anyone."""

import math
import re
from xml.etree import ElementTree

from ramengpt.comparison.pictures import loss_pictures, smoothed
from ramengpt.comparison.runs import ComparedRun
from tests.comparison.made_up import compared, grouped


def test_smoothing_thins_long_curves_and_keeps_the_mean():
    rows = [{"step": step, "loss": float(step % 2)} for step in range(1, 20_001)]
    points = smoothed(rows)
    assert len(points) <= 1500
    assert all(abs(point["loss"] - 0.5) < 0.01 for point in points)
    assert smoothed(rows[:3]) == rows[:3] and smoothed([]) == []


def test_pictures_are_drawn_of_short_and_of_diverged_runs():
    runs = [compared("short", [5.0]), compared("diverged", [6.0, math.nan, math.inf])]
    pictures = loss_pictures(grouped(*runs, ComparedRun("empty", {}, {}, [], [])))
    assert [picture.name for picture in pictures] == ["loss_by_step.svg", "loss_by_tokens.svg"]
    assert all(picture.svg.startswith(b"<?xml") for picture in pictures)
    assert pictures == loss_pictures(grouped(*runs, ComparedRun("empty", {}, {}, [], [])))


def test_the_first_step_of_a_run_which_compiles_moves_no_curve():
    def drawn(first_seconds: float) -> bytes:
        rows = [{"seconds": first_seconds + n, "loss": 5.0 - n} for n in range(3)]
        (picture,) = loss_pictures(grouped(ComparedRun("a", {}, {}, rows, rows[1:])))
        return picture.svg

    assert drawn(30.0) == drawn(1.0)


def test_a_picture_names_its_runs_and_its_axes():
    first, *_ = loss_pictures(
        grouped(compared("adam & co", [5.0, 4.0]), compared("bam", [5.0, 4.5]))
    )
    assert ElementTree.fromstring(first.svg).tag.endswith("svg")
    written = re.findall(r"<!-- (.*?) -->", first.svg.decode())
    assert {"adam &amp; co", "bam", "steps"} <= set(written)
    assert first.title == "Loss by steps"


def test_more_runs_than_colours_still_differ():
    runs = [compared(f"run{n}", [6.0, 5.0 - 0.1 * n]) for n in range(9)]
    svg = loss_pictures(grouped(*runs))[0].svg.decode()
    assert svg.count("stroke-dasharray") > loss_pictures(grouped(*runs[:8]))[0].svg.decode().count(
        "stroke-dasharray"
    )


def test_a_loss_that_explodes_does_not_hide_the_others():
    calm = loss_pictures(grouped(compared("a", [6.0, 5.0, 4.0])))[0].svg.decode()
    both = loss_pictures(grouped(compared("a", [6.0, 5.0, 4.0]), compared("b", [6.0, 5.0, 1e9])))[0]
    ticks = [float(text) for text in re.findall(r"<!-- (\d+\.\d+) -->", both.svg.decode())]
    assert calm and ticks and max(ticks) < 10


def test_a_group_is_one_mean_curve_with_a_band():
    runs = [compared(f"a{seed}", [6.0, 5.0 + 0.1 * seed], seed=seed) for seed in (1, 2, 3)]
    (group,) = grouped(*runs)
    picture = loss_pictures([group])[0].svg.decode()
    assert "FillBetween" in picture or "PolyCollection" in picture
    alone = loss_pictures(grouped(runs[0]))[0].svg.decode()
    assert "FillBetween" not in alone and "PolyCollection" not in alone
