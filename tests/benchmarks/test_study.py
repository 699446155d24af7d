"""Every run of the study is one that training takes, and leads to the runs that it should."""

from collections.abc import Iterable, Mapping

import pytest

from benchmarks.results.study import (
    EMBEDDING_FACTORS,
    FACTORS,
    OPTIMIZERS,
    PARTS,
    SETTINGS,
    STAGES,
    best_rates,
    final_rates,
    grid_runs,
    parts_runs,
    rates_of,
    runs_at,
    seeds_runs,
    small_runs,
    study_runs,
    sweep_is_missing,
    sweep_runs,
)
from benchmarks.run_pool import places
from benchmarks.run_record import Entries, Entry, Run
from ramengpt.config import load_config
from ramengpt.training.run_settings import RunOptions, plans_of
from tests.benchmarks.fake_runs import entry
from tests.conftest import ROOT

RATES = {"normuon": 0.04, "muon": 0.02, "bam": 0.005, "aro": 0.008, "adam": 0.002}
BEST = {"normuon": 0.08, "muon": 0.04, "bam": 0.02, "aro": 0.008, "adam": 0.0028}
"""In the middle of each grid, so that none grows."""


def recorded(runs: Iterable[Run], losses: Mapping[str, float | None]) -> dict[str, Entry]:
    """By name; losses of others are 4.5."""
    return {run.name: entry(loss=losses.get(run.name, 4.5), **run.entry()) for run in runs}


def best_at(rates: Mapping[str, float]) -> dict[str, float | None]:
    """Losses of 4 at some rates of the sweep."""
    return {f"{optimizer}-{rate:g}-1337": 4.0 for optimizer, rate in rates.items()}


def wanted(stages: list[str], losses: Mapping[str, float | None]) -> list[Run]:
    """All runs that stages come to, in the order in which they are asked for."""
    runs: list[Run] = []
    while new := [
        run for run in study_runs(stages, RATES, recorded(runs, losses)) if run not in runs
    ]:
        runs += new
    return runs


def swept(losses: Mapping[str, float | None]) -> dict[str, Entry]:
    """The runs of the sweep when it is whole."""
    return recorded(wanted(["sweep"], losses), losses)


def names(runs: Iterable[Run]) -> list[str]:
    return [run.name for run in runs]


def test_every_run_is_320_steps_that_params_yaml_allows() -> None:
    # The baseline is as good as every part, and the grid of adam grows by one.
    losses = best_at(BEST | {"adam": 0.0056}) | {"normuon-0.08-1337": 4.499}
    runs = wanted(list(STAGES), losses)
    assert len(runs) == (16 + 2) + 2 * 5 + 1 + 2 * 14  # sweep, seeds, small, parts
    assert len(set(names(runs))) == len(runs)
    assert len({(run.seed, run.settings) for run in runs}) == len(runs)
    for run in runs:
        assert all(letter.isalnum() or letter in "-." for letter in run.name), run.name
        config = load_config([*SETTINGS, *run.settings], ROOT / "params.yaml")
        plans = plans_of(config, RunOptions(1, None))
        assert (len(plans), plans[-1].tokens_before + plans[-1].tokens) == (320, 20_971_520)
        assert {plan.tokens for plan in plans} == {65_536}
        assert config.schedule.sequence.tokens == [2048]
        assert config.dataset_name == "text"
        assert config.model_name == config.schedule_name
        assert config.model_name == ("small" if run.labels["stage"] == "small" else "base")
        assert config.optimizer_name == run.labels["optimizer"]
        assert config.optimizer.learning_rate == run.labels["learning_rate"]
        assert config.validation.every_steps == (40 if run.alone else 1_000_000)
        tried = run.labels.get("embedding_factor")
        assert tried in (None, config.schedule.learning_rate.embedding_factor)


def test_every_part_and_factor_changes_the_configuration() -> None:
    usual = load_config(SETTINGS, ROOT / "params.yaml")
    changed = {
        part: load_config([*SETTINGS, *settings], ROOT / "params.yaml")
        for part, settings in PARTS.items()
    }
    assert all(config != usual for config in changed.values())
    plain = changed["plain: all of these off"].model
    assert plain.value_embedding_pattern == "------"
    switches = ("attention_gate", "smear", "skip_connection", "backout", "key_offset", "yarn")
    assert not any(getattr(plain, switch) for switch in switches)
    assert usual.schedule.learning_rate.embedding_factor not in EMBEDDING_FACTORS


def test_the_sweep_begins_with_multiples_of_each_rate_and_looks_at_embeddings() -> None:
    runs = sweep_runs(RATES, {})
    assert set(FACTORS) == set(OPTIMIZERS) == set(rates_of(SETTINGS))
    assert names(runs) == [
        *("normuon-0.04-1337", "normuon-0.08-1337", "normuon-0.16-1337"),
        *("muon-0.02-1337", "muon-0.04-1337", "muon-0.08-1337"),
        *("bam-0.01-1337", "bam-0.02-1337", "bam-0.04-1337"),
        *("aro-0.004-1337", "aro-0.008-1337", "aro-0.016-1337"),
        *("adam-0.0014-1337", "adam-0.0028-1337", "adam-0.0056-1337"),
        *("embedding-0.125-1337", "embedding-0.5-1337"),
    ]
    assert runs[6].settings[1:] == ("optimizer=bam", "optimizers.bam.learning_rate=0.01")
    assert runs[-1].settings[1:] == (
        "schedules.base.learning_rate.embedding_factor=0.5",
        *runs[0].settings[1:],  # of the run that they are held against
    )
    assert not any(run.alone for run in runs)


def test_small_begins_beside_the_whole_first_wave() -> None:
    first = study_runs(list(STAGES), RATES, {})
    assert sorted(names(first)) == sorted(names(sweep_runs(RATES, {}) + small_runs(RATES)))
    found = places(first, [], list("abcd"), processes_each=6)
    assert sorted(names(run for run, _ in found)) == sorted(names(first))


def grid_of_adam(losses: Mapping[str, float | None]) -> list[str]:
    """Rates that its grid comes to; the losses of others are 4.5."""
    entries: dict[str, Entry] = {}
    while new := [run for run in grid_runs("adam", 0.002, entries) if run.name not in entries]:
        entries |= recorded(new, {f"adam-{rate}-1337": loss for rate, loss in losses.items()})
    return [name.split("-")[1] for name in names(grid_runs("adam", 0.002, entries))]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({"0.0028": 4.0}, "0.0014 0.0028 0.0056"),
        ({"0.0014": 4.0}, "0.0007 0.0014 0.0028 0.0056"),
        ({"0.0014": 4.0, "0.0007": 3.9}, "0.00035 0.0007 0.0014 0.0028 0.0056"),
        ({"0.0056": 4.0, "0.0112": 3.9}, "0.0014 0.0028 0.0056 0.0112 0.0224"),
        ({"0.0056": 4.0, "0.0112": None}, "0.0014 0.0028 0.0056 0.0112"),
        ({"0.0056": None}, "0.0014 0.0028 0.0056"),
        ({"0.0028": None, "0.0056": None}, "0.0007 0.0014 0.0028 0.0056"),
        ({"0.0014": None, "0.0028": None, "0.0056": None}, "0.0014 0.0028 0.0056"),
        ({}, "0.0014 0.0028 0.0056"),  # all the same
    ],
)
def test_a_grid_grows_until_its_best_lies_inside_or_beside_a_failure(
    losses: Mapping[str, float | None], expected: str
) -> None:
    assert grid_of_adam(losses) == expected.split()


def test_a_grid_grows_only_once_all_its_runs_have_ended() -> None:
    first = grid_runs("adam", 0.002, {})
    entries = recorded(first[1:], {"adam-0.0056-1337": 4.0})
    assert grid_runs("adam", 0.002, entries) == first
    entries |= recorded(first[:1], {})
    assert names(grid_runs("adam", 0.002, entries)) == [*names(first), "adam-0.0112-1337"]


def test_seeds_take_each_best_rate_first_with_a_gpu_to_itself() -> None:
    losses = best_at(BEST) | {"muon-0.02-1337": 3.9, "muon-0.01-1337": 4.1}
    losses |= dict.fromkeys(["aro-0.004-1337", "aro-0.008-1337", "aro-0.016-1337"])
    losses["adam-0.0028-1337"] = None
    losses["adam-0.0014-1337"] = 4.0
    runs = seeds_runs(RATES, swept(losses))
    best = ["normuon-0.08", "muon-0.02", "bam-0.02", "adam-0.0014"]  # no run of aro's is finished
    assert names(runs) == [f"{name}-{seed}" for seed in (1338, 1339) for name in best]
    assert [run.alone for run in runs] == [True] * 4 + [False] * 4
    assert [run.seed for run in runs] == [1338] * 4 + [1339] * 4
    assert {run.labels["stage"] for run in runs} == {"seeds"}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("number", range(4))
def test_a_rate_is_best_once_its_own_grid_is_whole(optimizer: str, number: int) -> None:
    lowest = sweep_runs(RATES, {})[3 * OPTIMIZERS.index(optimizer)].labels["learning_rate"]
    best = BEST | {optimizer: lowest}  # its grid grows by one
    entries = swept(best_at(best))
    assert final_rates(RATES, entries) == best_rates(entries) == best
    del entries[grid_runs(optimizer, RATES[optimizer], entries)[number].name]
    others = [name for name in OPTIMIZERS if name != optimizer]
    assert list(final_rates(RATES, entries)) == others
    assert [run.labels["optimizer"] for run in seeds_runs(RATES, entries)] == 2 * others
    assert bool(parts_runs(RATES, entries)) == (optimizer != "normuon")
    assert sweep_is_missing(["seeds"], RATES, entries)
    assert sweep_is_missing(["small", "parts"], RATES, entries) == (optimizer == "normuon")
    assert not sweep_is_missing(["sweep", "seeds", "parts"], RATES, entries)
    assert not sweep_is_missing(["small"], RATES, entries)


def test_stages_begin_in_their_order_whatever_order_is_asked_for() -> None:
    asked = ["parts", "small", "seeds", "sweep"]
    nothing = study_runs(asked, RATES, {})
    assert names(nothing) == names(sweep_runs(RATES, {}) + small_runs(RATES))
    whole = study_runs(asked, RATES, swept(best_at(BEST)))
    stages = list(dict.fromkeys(run.labels["stage"] for run in whole))
    assert stages == ["sweep", "embedding", "seeds", "small", "parts"]
    assert study_runs(["seeds", "parts"], RATES, {}) == []
    assert study_runs(["small"], RATES, swept({})) == small_runs(RATES)


def test_small_is_timed_at_the_rate_of_the_baseline() -> None:
    (run,) = small_runs(RATES)
    assert run.alone
    assert run.settings[1:] == (
        "model=small",
        "schedule=small",
        "optimizer=normuon",
        "optimizers.normuon.learning_rate=0.04",
    )


def test_parts_and_their_baseline_are_at_its_best_rate() -> None:
    runs = parts_runs(RATES, swept(best_at(BEST)))
    assert names(runs[:2]) == ["normuon-0.08-1338", "normuon-0.08-1339"]
    assert runs[2].name == "without-value-embeddings-0.08-1337"
    assert [run.labels["part"] for run in runs[2:]] == [*PARTS]
    assert [run.seed for run in runs[2:]] == [1337] * len(PARTS)
    assert {run.labels["learning_rate"] for run in runs} == {0.08}
    assert all("optimizers.normuon.learning_rate=0.08" in run.settings for run in runs)
    assert [run.alone for run in runs] == [True] + [False] * (1 + len(PARTS))


def test_the_baselines_seeds_are_run_once() -> None:
    runs = names(study_runs(["seeds", "parts"], RATES, swept(best_at(BEST))))
    assert len(runs) == len(set(runs)) == 2 * 5 + len(PARTS)


def second_seeds(entries: Entries) -> list[str]:
    runs = parts_runs(RATES, entries)
    return [run.labels["part"] for run in runs if "part" in run.labels and run.seed == 1338]


def test_a_part_that_hardly_matters_gets_a_second_seed() -> None:
    entries = swept(best_at(BEST))
    one, other, *first = parts_runs(RATES, entries)
    losses = {"swiglu": 4.019, "plain": 3.981, "without-smear": 4.021, "without-YaRN": 3.979}
    losses |= {"head-in-float8": None}
    parts = entries | recorded(first, {f"{name}-0.08-1337": loss for name, loss in losses.items()})
    parts |= recorded([one], {one.name: 4.0})
    assert second_seeds(parts) == []  # the baseline has a seed to come
    failed = recorded([other], {other.name: None})
    assert second_seeds(parts | failed) == ["swiglu", "plain: all of these off"]
    third = recorded([other], {other.name: 4.006})
    assert second_seeds(parts | third) == ["without smear", "swiglu"]  # the mean is 4.002


def test_runs_at_a_rate_are_those_with_nothing_else_changed() -> None:
    entries = swept(best_at(BEST))
    entries |= recorded(parts_runs(RATES, entries), {})
    found = runs_at("normuon", 0.08, entries)
    assert [run["seed"] for run in found] == [1337, 1338, 1339]
    assert [run["name"] for run in runs_at("normuon", 0.04, entries)] == ["normuon-0.04-1337"]
