"""The study's tables against figures worked out by hand."""

import math

import pytest

from benchmarks.study.tables import (
    comparisons,
    found_table,
    p_text,
    seeds_table,
    space_table,
    tokens_to,
)
from tests.benchmarks.study_entries import ABOUT, SEEDS, entry, named


def test_arms_are_compared_seed_by_seed_with_both_baselines() -> None:
    # Differences -1.0 and -1.1: -1.05, standard error 0.05, with one degree of freedom t = 12.706
    # at 95 %. p = 1 - 2 atan(21) / pi = 0.0303. The curves of muon_jordan fall from 5 and 5.1 after
    # 1000 tokens to 4 and 4.1 after 2000, so that they reach 4.1 after 1900 and 2000.
    table = seeds_table(ABOUT, SEEDS, 1).splitlines()
    assert table[2:] == [
        "| muon_jordan | 3.0500 ± 0.6353 | 0.0707 | -1.0500 ± 0.6353 | 0.030 | - | - | 1.95 k | "
        "19.5 | 100 |",
        "| adamw | 4.1000 ± 1.2706 | 0.1414 | - | - | +1.0500 ± 0.6353 | 0.030 | - | - | - |",
        "| bam | 1 of 2 diverged | - | - | - | - | - | - | - | - |",
    ]


def test_without_a_timed_run_there_are_no_seconds() -> None:
    shared = {name: each for name, each in SEEDS.items() if each["stage"] == "seeds"}
    assert seeds_table(ABOUT, shared, 1).splitlines()[2].endswith("| - | - | 1.95 k |")


def test_a_pair_is_tested_once() -> None:
    arms = {
        name: {each["seed"]: each for each in SEEDS.values() if each["arm"] == name}
        for name in ("adamw", "muon_jordan")
    }
    arms["muon_jordan"].pop(0)
    one, other = comparisons(arms).values()
    assert one[0].value == -other[0].value == pytest.approx(-1.05)
    assert one[1] == other[1] == one[0].p_value


def test_a_loss_that_one_seed_never_reached_was_not_reached() -> None:
    runs = [SEEDS["adamw-seeds-1"], SEEDS["adamw-seeds-2"]]
    assert tokens_to(runs, 4.5) == pytest.approx((3000 + 3400) / 2, abs=0.1)
    assert tokens_to(runs, 4.1) is None
    assert tokens_to(runs, math.inf) is None


def test_what_was_found_and_whether_it_lies_inside() -> None:
    ranges = {"learning rate": [0.01, 1.0], "decay per step": [0.001, 0.1]}
    rest = {"learning rate": 0.1, "decay per step": 0.09, "warm-up steps": 7.0}
    runs = named(
        entry("normuon", "rates", 0, 4.0, values={"learning rate": 0.5}, ranges=ranges),
        entry("normuon", "rates", 1, None, values={"learning rate": 1.0}, ranges=ranges),
        entry("normuon", "rest", 0, 3.5, values=rest, ranges={"warm-up steps": [0, 40]}),
        entry("normuon", "rest", 1, 3.6, values=rest, ranges={"warm-up steps": [0, 40]}),
        entry("bam", "rates", 0, 4.0),
    )
    runs = dict(sorted(runs.items(), reverse=True))  # which trial ended first does not matter
    assert found_table(ABOUT, runs).splitlines()[2:] == [
        "| normuon | 4.0000 | 3.5000 | 4 (1 diverged) | learning rate 0.1, *decay per step 0.09*, "
        "warm-up steps 7 |"
    ]


def test_ranges_are_those_in_which_a_search_began() -> None:
    runs = named(
        entry("muon", "rates", 0, 4.0, ranges={"learning rate": [0.01, 1.0]}),
        entry("muon", "rates", 2, 3.9, ranges={"learning rate": [0.01, 3.0]}),
        entry("muon", "rest", 0, 3.8, ranges={"warm-up steps": [0, 40]}),
    )
    more = entry("bam", "rates", 0, 4.0, ranges={"learning rate": [0.02, 1.0]})
    assert space_table(runs | named(more)).splitlines()[2:] == [
        "| learning rate | 0.01 to 1 | muon |",
        "| learning rate | 0.02 to 1 | bam |",
        "| warm-up steps | 0 to 40 | muon |",
    ]
    assert space_table(runs).splitlines()[2] == "| learning rate | 0.01 to 1 | all |"


def test_small_p_values_are_bounded() -> None:
    assert [p_text(0.0004), p_text(0.0304)] == ["< 0.001", "0.030"]
