"""What is published from a record: params.yaml trains what was evaluated, and pages are marked."""

from pathlib import Path

import pytest
import yaml

from benchmarks.study.arms import STAGES, Arm
from benchmarks.study.publish import found_settings, with_found_values, with_parts
from benchmarks.study.task import TASKS
from ramengpt.config import load_config
from tests.benchmarks.study_entries import ABOUT, entry, named
from tests.conftest import ROOT

PARAMS = (ROOT / "params.yaml").read_text()
BASE = TASKS["base"].lasting(1)
ARMS = ("adamw", "muon_jordan", "normuon", "muon_hyperball", "soap", "normuon+outer_step")


def found(name: str) -> dict[str, float]:
    """Odd values, by the dimensions' names."""
    arm = Arm(name)
    dimensions = [each for stage in STAGES for each in arm.space(stage)]
    return {each.name: each.at(0.3) for each in dimensions}


ENTRIES = named(
    *(entry(arm, "seeds", seed, 3.0, values=found(arm)) for arm in ARMS for seed in (1, 2))
)


@pytest.mark.parametrize("name", ARMS[:-1])
def test_an_optimizers_name_alone_trains_what_was_evaluated(name: str, tmp_path: Path) -> None:
    published = tmp_path / "params.yaml"
    published.write_text(with_found_values(PARAMS, ABOUT, ENTRIES))
    chosen = load_config(["model=base", "schedule=contest", f"optimizer={name}"], published)
    assert load_config(BASE, published) == load_config(BASE, ROOT / "params.yaml")
    evaluated = load_config([*BASE, *Arm(name).settings(found(name))], ROOT / "params.yaml")
    assert chosen.optimizer == evaluated.optimizer
    assert chosen.schedule == evaluated.schedule
    assert chosen.embedding_adam == evaluated.embedding_adam
    assert chosen.scalar_adam == evaluated.scalar_adam


def test_publishing_again_changes_nothing() -> None:
    once = with_found_values(PARAMS, ABOUT, ENTRIES)
    assert once != PARAMS and with_found_values(once, ABOUT, ENTRIES) == once
    changed, before = yaml.safe_load(once), yaml.safe_load(PARAMS)
    assert changed["hooks"] == before["hooks"]
    assert changed["optimizers"]["lite"] == before["optimizers"]["lite"]


def test_comments_stay_where_they_were() -> None:
    once = with_found_values(PARAMS, ABOUT, ENTRIES)
    before = [line for line in PARAMS.splitlines() if "second moment" in line and "beta2" in line]
    after = [line for line in once.splitlines() if "second moment" in line and "beta2" in line]
    assert before != after
    assert [line.index("#") for line in before] == [line.index("#") for line in after]


def test_hooks_are_not_published() -> None:
    assert list(found_settings(ABOUT, ENTRIES)) == list(ARMS[:-1])


def test_only_marked_parts_of_a_page_change() -> None:
    page = "a\n<!-- study: x -->\nold\n<!-- end -->\nb\n<!-- study: y -->\nold\n<!-- end -->\n"
    made = with_parts(page, {"x": r"\1 new"})
    assert made == page.replace("x -->\nold\n", "x -->\n\n\\1 new\n\n", 1)
