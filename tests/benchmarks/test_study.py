"""Every run of the study is one that training takes, and leads to the runs that it should."""

from collections.abc import Iterable, Mapping

import pytest

from benchmarks.results.search import Point
from benchmarks.results.study import (
    OPTIMIZERS,
    PARTS,
    SETTINGS,
    STAGES,
    best_points,
    final_points,
    parts_runs,
    runs_at,
    seeds_runs,
    small_runs,
    study_runs,
    sweep_is_missing,
    sweep_runs,
)
from benchmarks.run_record import Entries, Entry, Run
from ramengpt.config import load_config
from ramengpt.training.session.settings import RunOptions, plans_of
from tests.benchmarks.fake_runs import entry
from tests.conftest import ROOT

RATES = {"normuon": 0.04, "muon": 0.02, "bam": 0.01, "aro": 0.008, "adam": 0.0028}
MIDDLES = {optimizer: Point(rate, 0.016) for optimizer, rate in RATES.items()}
"""Of each first grid: a search whose best is there ends with the grid."""
NONE_OF_ARO = dict.fromkeys(
    f"aro-{rate}-{embeddings}-1337"
    for rate in (0.004, 0.008, 0.016)
    for embeddings in (0.008, 0.016, 0.032)
)
"""Its whole grid has failed."""


def recorded(runs: Iterable[Run], losses: Mapping[str, float | None]) -> dict[str, Entry]:
    """By name; losses of others are 4.5."""
    return {run.name: entry(loss=losses.get(run.name, 4.5), **run.entry()) for run in runs}


def best_at(points: Mapping[str, Point]) -> dict[str, float | None]:
    """Losses of 4 at some points of the sweep."""
    return {f"{name}-{rate:g}-{more:g}-1337": 4.0 for name, (rate, more) in points.items()}


def wanted(stages: list[str], losses: Mapping[str, float | None]) -> list[Run]:
    """All runs that stages come to, in the order in which they are asked for."""
    runs: list[Run] = []
    while new := [run for run in study_runs(stages, recorded(runs, losses)) if run not in runs]:
        runs += new
    return runs


def swept(losses: Mapping[str, float | None]) -> dict[str, Entry]:
    """The runs of the sweep when it is whole."""
    return recorded(wanted(["sweep"], losses), losses)


def names(runs: Iterable[Run]) -> list[str]:
    return [run.name for run in runs]


def test_every_run_is_320_steps_that_params_yaml_allows() -> None:
    # The baseline is as good as every part, and two searches grow by one.
    points = MIDDLES | {"adam": Point(0.0056, 0.016), "normuon": Point(0.04, 0.008)}
    losses = best_at(points) | {"normuon-0.04-0.008-1337": 4.499}
    runs = wanted(list(STAGES), losses)
    assert len(runs) == (45 + 2) + 2 * 5 + 1 + 2 * 14  # sweep, seeds, small, parts
    assert len(set(names(runs))) == len(runs)
    assert len({(run.seed, run.settings) for run in runs}) == len(runs)
    for run in runs:
        assert all(letter.isalnum() or letter in "-." for letter in run.name), run.name
        config = load_config([*SETTINGS, *run.settings], ROOT / "params.yaml")
        plans = plans_of(config, RunOptions(None, None))
        assert (len(plans), plans[-1].tokens_before + plans[-1].tokens) == (320, 20_971_520)
        assert {plan.tokens for plan in plans} == {65_536}
        assert config.schedule.sequence.tokens == [2048]
        assert config.dataset_name == "text"
        assert config.model_name == config.schedule_name
        assert config.model_name == ("small" if run.labels["stage"] == "small" else "base")
        assert config.optimizer_name == run.labels["optimizer"]
        assert config.optimizer.learning_rate == run.labels["learning_rate"]
        assert config.embedding_adam.learning_rate == run.labels["embedding_rate"]
        assert config.validation.every_steps == (40 if run.alone else 1_000_000)


def test_every_part_changes_the_configuration_in_its_own_way() -> None:
    usual = load_config(SETTINGS, ROOT / "params.yaml")
    changed = {
        part: load_config([*SETTINGS, *settings], ROOT / "params.yaml")
        for part, settings in PARTS.items()
    }
    configs = [usual, *changed.values()]
    assert all(configs.count(config) == 1 for config in configs)
    plain = changed["plain: all of these off"].network
    assert plain.value_embedding_pattern == "------"
    switches = ("attention_gate", "smear", "skip_connection", "backout", "key_offset", "yarn")
    assert not any(getattr(plain, switch) for switch in switches)


def test_the_study_begins_with_a_grid_for_each_optimizer_and_nothing_else() -> None:
    runs = study_runs(list(STAGES), {})
    assert runs == sweep_runs({})
    assert len(runs) == 45
    assert [run.labels["optimizer"] for run in runs[::9]] == list(OPTIMIZERS)
    assert names(runs[:9]) == [
        *("normuon-0.02-0.008-1337", "normuon-0.02-0.016-1337", "normuon-0.02-0.032-1337"),
        *("normuon-0.04-0.008-1337", "normuon-0.04-0.016-1337", "normuon-0.04-0.032-1337"),
        *("normuon-0.08-0.008-1337", "normuon-0.08-0.016-1337", "normuon-0.08-0.032-1337"),
    ]
    assert runs[18].settings[1:] == (
        "optimizer=bam",
        "optimizers.bam.learning_rate=0.005",
        "embedding_adam.learning_rate=0.008",
    )
    assert not any(run.alone for run in runs)


def test_each_optimizer_is_searched_by_its_own_losses() -> None:
    losses = best_at(MIDDLES | {"muon": Point(0.01, 0.008), "bam": Point(0.02, 0.016)})
    losses |= {"bam-0.04-0.016-1337": None} | NONE_OF_ARO
    found = {run.name for run in wanted(["sweep"], losses)} - set(names(sweep_runs({})))
    assert found == {"muon-0.005-0.008-1337", "muon-0.01-0.004-1337", "bam-0.04-0.016-1337"}


def test_an_optimizer_is_best_where_one_seed_of_its_sweep_says_so() -> None:
    adam = {"adam-0.0028-0.016-1337": None, "adam-0.0014-0.032-1337": 4.4}
    entries = swept(best_at(MIDDLES) | adam | NONE_OF_ARO)
    expected = MIDDLES | {"adam": Point(0.0014, 0.032)}
    del expected["aro"]
    assert best_points(entries) == final_points(entries) == expected
    elsewhere = seeds_runs(swept(best_at({name: Point(RATES[name], 0.032) for name in RATES})))
    assert len(elsewhere) == 10
    entries |= recorded(elsewhere, {run.name: 1.0 for run in elsewhere})
    assert best_points(entries) == final_points(entries) == expected


def test_seeds_take_each_best_point_once_with_a_gpu_to_itself() -> None:
    points = MIDDLES | {"muon": Point(0.01, 0.016), "bam": Point(0.01, 0.032)}
    runs = seeds_runs(swept(best_at(points) | NONE_OF_ARO))
    best = ["normuon-0.04-0.016", "muon-0.01-0.016", "bam-0.01-0.032", "adam-0.0028-0.016"]
    assert names(runs) == [f"{name}-{seed}" for seed in (1338, 1339) for name in best]
    assert [run.seed for run in runs] == [1338] * 4 + [1339] * 4
    assert [run.alone for run in runs] == [True] * 4 + [False] * 4
    assert {run.labels["stage"] for run in runs} == {"seeds"}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_follows_from_a_search_waits_for_all_of_its_runs_and_no_others(optimizer: str) -> None:
    best = MIDDLES | {optimizer: Point(RATES[optimizer] / 2, 0.016)}  # its search grows by one
    whole = swept(best_at(best))
    assert final_points(whole) == best_points(whole) == best
    others = [name for name in OPTIMIZERS if name != optimizer]
    own = [name for name, each in whole.items() if each["optimizer"] == optimizer]
    assert len(own) == 10
    for name in own:
        entries = {each: whole[each] for each in whole if each != name}
        assert list(final_points(entries)) == others
        assert [run.labels["optimizer"] for run in seeds_runs(entries)] == 2 * others
        assert bool(parts_runs(entries)) == bool(small_runs(entries)) == (optimizer != "normuon")


@pytest.mark.parametrize("optimizer", ["normuon", "adam"])
def test_the_sweep_is_missing_to_stages_that_need_more_of_it(optimizer: str) -> None:
    entries = swept(best_at(MIDDLES))
    assert not sweep_is_missing(["seeds", "small", "parts"], entries)
    del entries[f"{optimizer}-{RATES[optimizer]:g}-0.032-1337"]
    assert sweep_is_missing(["seeds"], entries)
    for stages in (["small"], ["parts"], ["small", "parts"]):
        assert sweep_is_missing(stages, entries) == (optimizer == "normuon")
    assert not sweep_is_missing(["sweep", "seeds", "small", "parts"], entries)


def test_stages_begin_in_their_order_whatever_order_is_asked_for() -> None:
    entries = swept(best_at(MIDDLES))
    expected = ["small"] + ["seeds"] * 10 + ["parts"] * len(PARTS)
    for stages in (list(STAGES), list(STAGES)[::-1]):
        runs = [run for run in study_runs(stages, entries) if run.name not in entries]
        assert [run.labels["stage"] for run in runs] == expected
    assert study_runs(["seeds", "small", "parts"], {}) == []
    assert study_runs(["small"], entries) == small_runs(entries)


def test_parts_of_the_baseline_are_tried_while_others_are_still_searched() -> None:
    entries = swept(best_at(MIDDLES))
    del entries["adam-0.0014-0.016-1337"]
    due = [run for run in study_runs(list(STAGES), entries) if run.name not in entries]
    assert names(due[:2]) == ["adam-0.0014-0.016-1337", "small-0.04-0.016-1337"]
    assert {run.labels["optimizer"] for run in due[2:10]} == {"normuon", "muon", "bam", "aro"}
    assert [run.labels["part"] for run in due[10:]] == [*PARTS]


def test_small_is_timed_where_the_baseline_is_best() -> None:
    (run,) = small_runs(swept(best_at(MIDDLES | {"normuon": Point(0.08, 0.008)})))
    assert run.name == "small-0.08-0.008-1337"
    assert run.alone
    assert run.settings[1:] == (
        "optimizer=normuon",
        "optimizers.normuon.learning_rate=0.08",
        "embedding_adam.learning_rate=0.008",
        "model=small",
        "schedule=small",
    )


def test_parts_and_their_baseline_are_where_it_is_best() -> None:
    third, *parts, second = parts_runs(swept(best_at(MIDDLES | {"normuon": Point(0.08, 0.008)})))
    assert names([third, second]) == ["normuon-0.08-0.008-1339", "normuon-0.08-0.008-1338"]
    assert (third.alone, second.alone) == (False, True)
    assert parts[0].name == "without-value-embeddings-0.08-0.008-1337"
    assert parts[0].settings == (*third.settings, "architectures.ramen.value_embeddings=none")
    assert [run.labels["part"] for run in parts] == [*PARTS]
    assert {(run.seed, run.alone) for run in parts} == {(1337, False)}
    assert all(run.settings[: len(third.settings)] == third.settings for run in parts)


def test_the_baselines_seeds_are_run_once() -> None:
    entries = swept(best_at(MIDDLES))
    runs = study_runs(["seeds", "parts"], entries)
    runs = study_runs(["seeds", "parts"], entries | recorded(runs, {}))
    assert len(set(names(runs))) == len(runs) == 2 * 5 + len(PARTS)


def second_seeds(entries: Entries) -> list[str]:
    runs = parts_runs(entries)
    return [run.labels["part"] for run in runs if "part" in run.labels and run.seed == 1338]


def test_a_part_that_hardly_matters_gets_a_second_seed() -> None:
    entries = swept(best_at(MIDDLES))
    third, *first, second = parts_runs(entries)
    losses = {"swiglu": 4.019, "plain": 3.981, "without-smear": 4.021, "without-YaRN": 3.979}
    losses |= {"head-in-float8": None}
    named = {f"{name}-0.04-0.016-1337": loss for name, loss in losses.items()}
    parts = entries | recorded(first, named)
    assert second_seeds(parts) == []  # the baseline has a seed to come
    failed = recorded([third], {third.name: None})
    assert second_seeds(parts | failed) == ["swiglu", "plain: all of these off"]
    parts |= recorded([third], {third.name: 4.004})
    assert second_seeds(parts) == ["without smear", "swiglu"]  # the mean is 4.002
    # What is timed comes later, and does not change it.
    assert second_seeds(parts | recorded([second], {})) == ["without smear", "swiglu"]


def test_runs_at_a_point_are_those_with_nothing_else_changed() -> None:
    entries = swept(best_at(MIDDLES))
    entries |= recorded(parts_runs(entries) + small_runs(entries), {})
    found = runs_at("normuon", Point(0.04, 0.016), entries)
    assert sorted(run["seed"] for run in found) == [1337, 1338, 1339]
    (other,) = runs_at("normuon", Point(0.04, 0.032), entries)
    assert other["name"] == "normuon-0.04-0.032-1337"
