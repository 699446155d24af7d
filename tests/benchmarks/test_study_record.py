"""What pages and params.yaml say of the study is what its record says."""

import re
from statistics import fmean

from benchmarks.contest import leaderboard
from benchmarks.run_record import DONE, read_record
from benchmarks.study.arms import STAGES
from benchmarks.study.protocol import trials_of
from benchmarks.study.tables import arms_of, cost_line, losses_of, tables_in, tables_of, tokens_to
from benchmarks.study.task import SELECTION_SEED
from tests.conftest import ROOT

ABOUT, ENTRIES = read_record(ROOT / "docs/results/study_base.json")
PAGE = ROOT / "docs/results.md"


def test_the_tables_of_the_page_are_those_of_the_record() -> None:
    page = PAGE.read_text()
    tables, made = tables_in(page), tables_of(ABOUT, ENTRIES)
    assert tables and page.count("<!-- table: ") == len(tables)
    assert tables == {name: made[name] for name in tables}


def test_a_loss_in_the_text_is_one_of_a_table() -> None:
    made = "\n".join(tables_of(ABOUT, ENTRIES).values())
    prose = re.sub(r"<!-- table: .*?<!-- end -->", "", PAGE.read_text(), flags=re.S)
    for figure in re.findall(r"\b\d\.\d{3,4}\b", prose):
        assert figure in made, figure


def test_the_shares_of_tokens_in_the_text_are_those_of_the_record() -> None:
    arms = arms_of(ABOUT, ENTRIES, 1)
    target = fmean(losses_of(arms.pop("adamw")).values())
    shares = []
    for runs in arms.values():
        reached = tokens_to(runs.values(), target)
        assert reached is not None
        shares.append(reached / next(iter(runs.values()))["tokens"])
    told = f"after {min(shares):.0%} to {max(shares):.0%}".replace("% to", " to").replace("%", " %")
    assert told in " ".join(PAGE.read_text().split())


def test_the_page_tells_what_the_study_cost() -> None:
    assert cost_line(ABOUT, ENTRIES) in PAGE.read_text()


def test_no_seed_selected_and_evaluated() -> None:
    selecting = {entry["seed"] for entry in ENTRIES.values() if entry["stage"] in STAGES}
    evaluating = {entry["seed"] for entry in ENTRIES.values() if entry["stage"] == "seeds"}
    assert selecting == {SELECTION_SEED} and not selecting & evaluating


def test_no_tuned_arm_has_more_trials_than_another() -> None:
    trials = [len(trials_of(ENTRIES, arm, STAGES)) for arm in arms_of(ABOUT, ENTRIES, 1)]
    assert set(trials) == {sum(ABOUT["trials"])}


def test_the_leaderboard_is_that_of_the_record() -> None:
    page = (ROOT / "docs/results/leaderboard.md").read_text()
    assert page == leaderboard(ABOUT, {}, ENTRIES)


def test_a_run_of_the_contest_fits_the_memory_that_its_page_names() -> None:
    peak = max(entry.get("peak_memory_gib", 0) for entry in ENTRIES.values())
    assert f"{peak:.1f} GiB" in (ROOT / "docs/contest.md").read_text()


def test_the_page_lists_what_failed() -> None:
    page = PAGE.read_text()
    failed = [entry["error"] for entry in ENTRIES.values() if entry["status"] != DONE]
    assert all(error.rpartition(": ")[2] in page for error in failed)
