"""What pages say of the study is what its record says."""

import re
from statistics import fmean
from typing import Any

import pytest

from benchmarks.contest import leaderboard
from benchmarks.run_record import read_record
from benchmarks.study.arms import STAGES
from benchmarks.study.page import parts_of
from benchmarks.study.protocol import trials_of
from benchmarks.study.publish import PAGES, contest_of, found_settings
from benchmarks.study.tables import arms_of, losses_of
from benchmarks.study.task import SELECTION_SEED
from ramengpt.comparison.statistics import paired_t
from ramengpt.config import Config, load_config
from tests.benchmarks.fake_runs import parts_in
from tests.conftest import ROOT

RECORD = ROOT / "docs/results/study_base.json"
ABOUT, ENTRIES = read_record(RECORD)
PARTS = parts_of(ABOUT, ENTRIES)
FOUND = found_settings(ABOUT, ENTRIES)


@pytest.mark.parametrize("name", PAGES)
def test_the_parts_of_a_page_are_those_of_the_record(name: str) -> None:
    page = (ROOT / name).read_text()
    parts = parts_in(page)
    assert parts and page.count("<!-- study: ") == len(parts)
    assert parts == {name: PARTS[name] for name in parts}


def test_the_page_of_results_has_all_parts_and_no_other_loss() -> None:
    page = (ROOT / "docs/results.md").read_text()
    assert parts_in(page).keys() == PARTS.keys() - {"tuned"}
    prose = re.sub(r"<!-- study: .*?<!-- end -->", "", page, flags=re.S)
    assert re.findall(r"\b\d\.\d{3,4}\b", prose) == []


def test_the_gap_of_adamw_is_that_of_the_record_at_both_lengths() -> None:
    page = (ROOT / "docs/results.md").read_text()
    told = re.search(r"it was (\S+) nats/token behind.*\n.*after twice the steps (\S+)\.", page)
    assert told is not None
    for gap, times in zip(told.groups(), (1, 2), strict=True):
        arms = arms_of(ABOUT, ENTRIES, times)
        behind = fmean(losses_of(arms["adamw"]).values())
        behind -= fmean(losses_of(arms["muon_jordan"]).values())
        assert gap == f"{behind:.2f}"


def test_what_the_order_of_the_text_is_worth_is_what_its_record_says() -> None:
    _, entries = read_record(ROOT / "docs/results/order_base.json")
    loss: dict[str, dict[int, float]] = {}
    for entry in entries.values():
        loss.setdefault(entry["arm"], {})[entry["seed"]] = entry["validation_loss"]
    lower = paired_t(loss["shuffled dropped"], loss["sequential dropped"], 0.95)
    split = paired_t(loss["shuffled split"], loss["shuffled dropped"], 0.95)
    in_order = paired_t(loss["sequential split"], loss["sequential dropped"], 0.95)
    page = (ROOT / "docs/results.md").read_text()
    assert f"{-lower.value:.2f} nats/token lower" in page and lower.p_value < 0.05
    assert f"costs {in_order.value:.2f} in" in page and in_order.p_value < 0.05
    assert "no difference beyond chance" in page and split.p_value > 0.05
    reading = load_config(["dataset=text"], ROOT / "params.yaml").reading
    assert (reading.order, reading.long_documents) == ("shuffled", "dropped")


def trained(config: Config) -> dict[str, Any]:
    """All that the optimizers do: what an entry leaves out is what all of them share."""
    head = config.optimizer.head_learning_rate or config.embedding_adam.learning_rate
    own = {"embedding_learning_rate", "head_learning_rate", "scalar_learning_rate", "warmup_steps"}
    return {
        "hidden": config.optimizer.model_dump(exclude=own),
        "embeddings": config.embedding_adam,
        "head": head,
        "scalars": config.scalar_adam,
        "schedule": config.schedule,
    }


@pytest.mark.parametrize("name", FOUND)
def test_an_optimizers_name_alone_trains_what_was_evaluated(name: str) -> None:
    overrides = ["model=base", "schedule=contest", f"optimizer={name}"]
    chosen = load_config(overrides, ROOT / "params.yaml")
    evaluated = load_config(
        [*ABOUT["settings"], f"optimizer={name}", *FOUND[name]], ROOT / "params.yaml"
    )
    assert trained(chosen) == trained(evaluated)


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
