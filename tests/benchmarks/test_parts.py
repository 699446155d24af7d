"""The study of the network's parts: its arms are configurations, its page is its record."""

import pytest

from benchmarks.parts import SCHEDULES, SEEDS, parts_table, settings_of, study_arms, study_runs
from benchmarks.run_record import DONE, FAILED, read_record
from ramengpt.config import load_config
from tests.conftest import ROOT

PARAMS = ROOT / "params.yaml"


@pytest.fixture(scope="module")
def arms() -> dict[str, tuple[str, ...]]:
    return study_arms(settings_of("base"))


@pytest.mark.parametrize("model", SCHEDULES)
def test_the_settings_of_every_size_load(model: str) -> None:
    assert load_config(settings_of(model), PARAMS).model_name == model


def test_every_arm_is_a_configuration_of_its_own(arms: dict[str, tuple[str, ...]]) -> None:
    shared = settings_of("base")
    configs = {arm: load_config([*shared, *own], PARAMS) for arm, own in arms.items()}
    for arm, config in configs.items():
        same = [other for other, found in configs.items() if found == config and other != arm]
        assert not same, f"{arm} is {same}"


def test_an_arm_is_a_baseline_without_what_it_has_or_with_what_it_has_not(
    arms: dict[str, tuple[str, ...]],
) -> None:
    assert "speedrun without bigram embedding" in arms
    assert "ramen with bigram embedding" in arms
    switched = [*settings_of("base"), "architectures.ramen.bigram_embedding=true"]
    without = study_arms(switched)["ramen without bigram embedding"]
    assert without == ("architecture=ramen", "architectures.ramen.bigram_embedding=false")
    assert not load_config([*switched, *without], PARAMS).architecture.bigram_embedding


def test_every_seed_of_an_arm_is_a_run_of_its_own(arms: dict[str, tuple[str, ...]]) -> None:
    runs = study_runs(arms, SEEDS, every_steps=7, alone=False)
    assert len({run.name for run in runs}) == len(arms) * len(SEEDS)
    assert [run.seed for run in runs[: len(arms)]] == [SEEDS[0]] * len(arms)


def entry(arm: str, seed: int, loss: float, seconds: float = 0.0) -> dict[str, object]:
    about = {"name": f"{arm}-{seed}", "arm": arm, "seed": seed, "status": DONE}
    timed = {"alone": seconds > 0, "steady_seconds": seconds}
    return about | timed | {"validation_loss": loss}


def test_differences_are_taken_seed_by_seed() -> None:
    entries = [
        entry("all parts", 1, 2.0), entry("all parts", 2, 3.0), entry("ramen", 1, 4.0),
        entry("all parts without late attention", 2, 3.5),
        entry("ramen with late attention", 1, 3.75),
        {"name": "ramen-2", "arm": "ramen", "seed": 2, "status": FAILED, "error": "no memory"},
    ]  # fmt: skip
    table = parts_table({str(each["name"]): each for each in entries})
    assert "| all parts | 2.5000 | 0.7071 | - | 2 |" in table
    assert "| all parts without late attention | 3.5000 | - | +0.5000 ± ? | 1 |" in table
    assert "| ramen with late attention | 3.7500 | - | -0.2500 ± ? | 1 |" in table
    assert "failed: ramen-2: no memory" in table


def test_runs_with_a_card_to_themselves_have_seconds() -> None:
    entries = [entry("speedrun", 1, 2.0, 70.0), entry("speedrun", 2, 2.5, 72.0)]
    entries += [entry("speedrun with paired heads", 1, 1.75)]
    table = parts_table({str(each["name"]): each for each in entries})
    assert "| speedrun | 2.2500 | 0.3536 | - | 2 | 71.0 |" in table
    assert "| speedrun with paired heads | 1.7500 | - | -0.2500 ± ? | 1 | - |" in table
    alone = study_runs({"ramen": ()}, [1], every_steps=7, alone=True)
    assert [run.alone for run in alone] == [True]


@pytest.mark.parametrize("record", ["parts_base", "parts_base_all"])
def test_the_page_shows_its_records(record: str) -> None:
    _, entries = read_record(ROOT / "docs/results" / f"{record}.json")
    assert parts_table(entries).strip() in (ROOT / "docs/parts.md").read_text()
