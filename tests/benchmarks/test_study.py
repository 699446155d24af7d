"""Every run of the study is one that training takes, and leads to the runs that it should."""

import math
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
    parts_runs,
    rates_of,
    runs_at,
    seeds_runs,
    small_runs,
    spread_of_seeds,
    study_runs,
    sweep_runs,
)
from benchmarks.run_record import Entries, Entry, Run
from ramengpt.config import load_config
from ramengpt.training.run_settings import RunOptions, plans_of
from tests.benchmarks.fake_runs import entry
from tests.conftest import ROOT

RATES = {"normuon": 0.04, "muon": 0.02, "bam": 0.005, "aro": 0.008, "adam": 0.002}


def recorded(runs: Iterable[Run], losses: Mapping[str, float | None]) -> dict[str, Entry]:
    """By name; losses of others are 4.5."""
    return {run.name: entry(loss=losses.get(run.name, 4.5), **run.entry()) for run in runs}


def swept(losses: Mapping[str, float | None]) -> dict[str, Entry]:
    return recorded(sweep_runs(RATES), losses)


def names(runs: Iterable[Run]) -> list[str]:
    return [run.name for run in runs]


def whole_study(rates: dict[str, float], losses: Mapping[str, float | None]) -> list[Run]:
    """All runs that the plan comes to, in the order in which it asks for them."""
    entries: dict[str, Entry] = {}
    runs: list[Run] = []
    while new := [
        run for run in study_runs(list(STAGES), rates, entries) if run.name not in entries
    ]:
        entries |= recorded(new, losses)
        runs += new
    return runs


def test_every_run_is_400_steps_that_params_yaml_allows() -> None:
    rates = rates_of(SETTINGS)
    best = sweep_runs(rates)[0]
    assert best.labels["learning_rate"] != rates["normuon"]
    runs = whole_study(rates, {best.name: 4.4})
    assert len(runs) == (12 + 1) + 2 * 5 + 1 + (2 * 14 + 1)  # sweep, seeds, small, parts
    assert len(set(names(runs))) == len(runs)
    assert len({(run.seed, run.settings) for run in runs}) == len(runs)
    for run in runs:
        assert all(letter.isalnum() or letter in "-." for letter in run.name), run.name
        config = load_config([*SETTINGS, *run.settings], ROOT / "params.yaml")
        plans = plans_of(config, RunOptions(1, None))
        assert (len(plans), plans[-1].tokens_before + plans[-1].tokens) == (400, 26_214_400)
        assert {plan.tokens for plan in plans} == {65_536}
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


def test_the_sweep_takes_multiples_of_each_rate_and_then_looks_at_embeddings() -> None:
    runs = sweep_runs(RATES)
    assert set(FACTORS) == set(OPTIMIZERS) == set(RATES)
    assert names(runs) == [
        *("normuon-0.02-1337", "normuon-0.04-1337", "normuon-0.08-1337"),
        *("muon-0.02-1337", "muon-0.04-1337", "muon-0.08-1337"),
        *("bam-0.01-1337", "bam-0.02-1337"),
        *("aro-0.008-1337", "aro-0.016-1337"),
        *("adam-0.0028-1337", "adam-0.0056-1337"),
        "embedding-0.125-1337",
    ]
    assert runs[6].settings[1:] == ("optimizer=bam", "optimizers.bam.learning_rate=0.01")
    assert runs[-1].settings[1:] == (
        "schedules.base.learning_rate.embedding_factor=0.125",
        "optimizer=normuon",
        "optimizers.normuon.learning_rate=0.04",
    )
    assert not any(run.alone for run in runs)


def test_seeds_take_each_best_rate_first_with_a_gpu_to_itself() -> None:
    losses = {"normuon-0.08-1337": 4.0, "muon-0.02-1337": 4.1, "bam-0.01-1337": 4.2}
    losses |= dict.fromkeys(["aro-0.008-1337", "aro-0.016-1337", "adam-0.0028-1337"])
    runs = seeds_runs(RATES, swept(losses))
    best = ["normuon-0.08", "muon-0.02", "bam-0.01", "adam-0.0056"]  # no run of aro's is finished
    assert names(runs) == [f"{name}-{seed}" for seed in (1338, 1339) for name in best]
    assert [run.alone for run in runs] == [True] * 4 + [False] * 4
    assert [run.seed for run in runs] == [1338] * 4 + [1339] * 4
    assert {run.labels["stage"] for run in runs} == {"seeds"}


@pytest.mark.parametrize("missing", names(sweep_runs(RATES)))
def test_no_rate_is_best_before_the_sweep_is_whole(missing: str) -> None:
    entries = swept({})
    del entries[missing]
    assert seeds_runs(RATES, entries) == []


def test_stages_begin_in_their_order_whatever_order_is_asked_for() -> None:
    def stages(runs: Iterable[Run]) -> list[str]:
        return list(dict.fromkeys(run.labels["stage"] for run in runs))

    asked = ["parts", "small", "seeds", "sweep"]
    nothing = study_runs(asked, RATES, {})
    assert names(nothing) == names(sweep_runs(RATES) + small_runs(RATES) + parts_runs(RATES, {}))
    assert stages(nothing) == ["sweep", "embedding", "small", "parts", "seeds"]  # the baseline's
    whole = study_runs(asked, RATES, swept({}))
    assert stages(whole) == ["sweep", "embedding", "seeds", "small", "parts"]
    assert study_runs(["seeds"], RATES, {}) == []
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


def test_parts_do_not_wait_for_the_sweep_and_the_baseline_gets_a_second_seed() -> None:
    runs = parts_runs(RATES, {})
    assert [run.labels.get("part") for run in runs] == [*PARTS, None]
    assert [run.seed for run in runs] == [1337] * len(PARTS) + [1339]
    assert runs[-1].name == "normuon-0.04-1339"
    assert {run.labels["learning_rate"] for run in runs} == {0.04}
    assert not any(run.alone for run in runs)


def test_the_baselines_second_seed_is_run_once_where_its_rate_is_best() -> None:
    best = swept({"normuon-0.04-1337": 4.0})
    runs = names(study_runs(["seeds", "parts"], RATES, best))
    assert runs.count("normuon-0.04-1339") == 1
    assert len(runs) == len(set(runs)) == 2 * 5 + len(PARTS)
    other = swept({"normuon-0.08-1337": 4.0})
    assert len(study_runs(["seeds", "parts"], RATES, other)) == 2 * 5 + len(PARTS) + 1


def second_seeds(entries: Entries) -> list[str]:
    return [run.labels["part"] for run in parts_runs(RATES, entries) if run.seed == 1338]


def test_a_part_that_hardly_matters_gets_a_second_seed() -> None:
    losses = {f"{name}-1337": loss for name, loss in [("swiglu", 4.019), ("plain", 3.981)]}
    losses |= {"without-smear-1337": 4.021, "without-YaRN-1337": 3.979, "head-in-float8-1337": None}
    parts = recorded(parts_runs(RATES, {})[: len(PARTS)], losses)
    assert second_seeds(parts) == []  # nothing to hold them against
    one = parts | swept({"normuon-0.04-1337": 4.0, "normuon-0.02-1337": 4.5})
    assert second_seeds(one) == ["swiglu", "plain: all of these off"]
    second = recorded(parts_runs(RATES, {})[len(PARTS) :], {"normuon-0.04-1339": 4.004})
    assert second_seeds(one | second) == ["without smear", "swiglu"]  # the mean is 4.002


def test_runs_at_a_rate_are_those_with_nothing_else_changed() -> None:
    entries = swept({}) | recorded(parts_runs(RATES, {}), {})
    found = runs_at("normuon", 0.04, entries)
    assert [run["name"] for run in found] == ["normuon-0.04-1337", "normuon-0.04-1339"]


def test_the_spread_is_pooled_over_optimizers_at_their_best() -> None:
    entries = swept({"normuon-0.08-1337": 4.0, "adam-0.0028-1337": 4.2})
    assert best_rates(entries)["normuon"] == 0.08
    assert spread_of_seeds(entries) is None
    losses = {"normuon-0.08-1338": 4.1, "normuon-0.08-1339": 4.2, "adam-0.0028-1338": 4.4}
    seeds = recorded(seeds_runs(RATES, entries), dict.fromkeys(names(seeds_runs(RATES, entries))))
    seeds |= recorded([run for run in seeds_runs(RATES, entries) if run.name in losses], losses)
    beside = recorded(parts_runs(RATES, {}), {"normuon-0.04-1339": 9.0})
    # Squares: 0.02 of three runs of normuon, 0.02 of two of adam. One run alone has no spread.
    assert spread_of_seeds(entries | seeds | beside) == pytest.approx(math.sqrt(0.04 / 3))
