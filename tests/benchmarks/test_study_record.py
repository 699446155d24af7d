"""What pages say of the study is what its record says."""

import re

import pytest

from benchmarks.contest import leaderboard
from benchmarks.run_record import read_record
from benchmarks.study.arms import STAGES
from benchmarks.study.page import parts_in, parts_of
from benchmarks.study.protocol import trials_of
from benchmarks.study.publish import PAGES, contest_of
from benchmarks.study.tables import arms_of
from benchmarks.study.task import SELECTION_SEED
from tests.conftest import ROOT

RECORD = ROOT / "docs/results/study_base.json"
ABOUT, ENTRIES = read_record(RECORD)
PARTS = parts_of(ABOUT, ENTRIES)


@pytest.mark.parametrize("name", PAGES)
def test_the_parts_of_a_page_are_those_of_the_record(name: str) -> None:
    page = (ROOT / name).read_text()
    parts = parts_in(page)
    assert parts and page.count("<!-- study: ") == len(parts)
    assert parts == {name: PARTS[name] for name in parts}


def test_the_page_of_results_has_all_parts_and_no_other_loss() -> None:
    page = (ROOT / "docs/results.md").read_text()
    assert parts_in(page).keys() == PARTS.keys()
    prose = re.sub(r"<!-- study: .*?<!-- end -->", "", page, flags=re.S)
    assert re.findall(r"\b\d\.\d{3,4}\b", prose) == []


def test_no_seed_selected_and_evaluated() -> None:
    selecting = {entry["seed"] for entry in ENTRIES.values() if entry["stage"] in STAGES}
    evaluating = {entry["seed"] for entry in ENTRIES.values() if entry["stage"] == "seeds"}
    assert selecting == {SELECTION_SEED} and not selecting & evaluating


def test_no_tuned_arm_has_more_trials_than_another() -> None:
    trials = [len(trials_of(ENTRIES, arm, STAGES)) for arm in arms_of(ABOUT, ENTRIES, 1)]
    assert set(trials) == {sum(ABOUT["trials"])}


def test_the_leaderboard_is_that_of_the_record() -> None:
    page = (ROOT / "docs/results/leaderboard.md").read_text()
    assert page == leaderboard(ABOUT, contest_of(RECORD), ENTRIES)


def test_a_run_of_the_contest_fits_the_memory_that_its_page_names() -> None:
    peak = max(entry.get("peak_memory_gib", 0) for entry in ENTRIES.values())
    told = re.search(r"at most (\d+) GiB", (ROOT / "docs/contest.md").read_text())
    assert told is not None and peak < int(told[1])
