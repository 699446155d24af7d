"""Every run of the study is one that training takes, and leads to the runs that it should."""

import math

import pytest

from benchmarks.results.study import (
    FACTORS,
    OPTIMIZERS,
    PARTS,
    SETTINGS,
    Rates,
    best_rates,
    final_runs,
    outward,
    parts_runs,
    rates_of,
    small_runs,
    sweep_runs,
)
from benchmarks.run_record import Entry, Run
from ramengpt.config import load_config
from ramengpt.training.run_settings import RunOptions, plans_of
from tests.benchmarks.fake_runs import entry
from tests.conftest import ROOT

RATES = Rates({"normuon": 0.02, "muon": 0.02, "bam": 0.005, "aro": 0.008, "adam": 0.002}, 0.016)


def recorded(run: Run, loss: float | None) -> Entry:
    return entry(run.name, loss=loss, **run.labels, **{"seed": run.seed})


def swept(losses: dict[str, float | None], otherwise: float = 5.0) -> dict[str, Entry]:
    runs = sweep_runs(RATES, {})
    return {run.name: recorded(run, losses.get(run.name, otherwise)) for run in runs}


def with_finals(baseline: list[float]) -> dict[str, Entry]:
    entries = swept({"sweep-normuon-0.014": 4.0, "sweep-adam-0.002": 4.5})
    for run in final_runs(entries):
        loss = baseline[run.seed - 1337] if run.labels["optimizer"] == "normuon" else 4.6
        entries[run.name] = recorded(run, loss)
    return entries


def all_runs() -> list[Run]:
    """Of all stages, with every extension and every second seed."""
    rates = rates_of(SETTINGS)
    entries: dict[str, Entry] = {}
    for _ in range(4):  # ever lower losses outward
        for run in sweep_runs(rates, entries):
            rate = float(run.labels["learning_rate"])
            entries[run.name] = recorded(run, 5.0 - math.log1p(rate))
    sweep = list(sweep_runs(rates, entries))
    final, small = final_runs(entries), small_runs(entries)
    entries |= {run.name: recorded(run, 4.0 + run.seed / 1e4) for run in final}
    entries |= {run.name: recorded(run, 4.1338) for run in parts_runs(entries)}
    return [*sweep, *final, *small, *parts_runs(entries)]


def test_every_run_is_one_pass_over_the_text_that_params_yaml_allows() -> None:
    runs = all_runs()
    assert len(runs) == 5 * (5 + 3) + 3 + 15 + 1 + 2 * len(PARTS)
    assert len({run.name for run in runs}) == len(runs)
    assert len({(run.seed, run.settings) for run in runs}) == len(runs) - 5  # final at 1337: anew
    for run in runs:
        assert all(letter.isalnum() or letter in "-." for letter in run.name), run.name
        config = load_config([*SETTINGS, *run.settings], ROOT / "params.yaml")
        plans = plans_of(config, RunOptions(1, None))
        assert (len(plans), plans[-1].tokens_before + plans[-1].tokens) == (560, 36_700_160)
        assert {plan.tokens for plan in plans} == {65_536}
        assert config.dataset_name == "text"
        assert config.model_name == config.schedule_name
        assert config.model_name == ("small" if run.labels["stage"] == "small" else "base")
        assert config.optimizer_name == run.labels["optimizer"]
        assert config.optimizer.learning_rate == run.labels["learning_rate"]


def test_every_part_changes_the_configuration() -> None:
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


@pytest.mark.parametrize(
    ("losses", "further"),
    [
        ([3.0, 2.0, 3.0], None),
        ([1.0, 2.0, 3.0], 0.357),
        ([3.0, 2.0, 1.0], 2.8),
        ([3.0, 2.0, math.inf], None),
        ([math.inf, 2.0, 3.0], None),
        ([2.0, None, 1.0], None),
        ([math.inf, math.inf, math.inf], None),
    ],
)
def test_the_grid_goes_on_beyond_a_best_that_is_outermost(
    losses: list[float | None], further: float | None
) -> None:
    assert outward(losses, [0.5, 1.0, 2.0]) == further


def test_the_sweep_is_widened_three_times_at_most() -> None:
    entries = swept({"sweep-adam-0.001": 4.0, "sweep-adam-0.0014": 4.5})
    found = []
    for loss in (3.9, 3.8, 3.7, 3.6):
        new = [run for run in sweep_runs(RATES, entries) if run.name not in entries]
        found += [run.name for run in new if "adam" in run.name]
        entries |= {run.name: recorded(run, loss if "adam" in run.name else 9.0) for run in new}
    assert found == ["sweep-adam-0.000714", "sweep-adam-0.00051", "sweep-adam-0.000364"]
    assert best_rates(entries)["adam"] == 0.000364


def test_the_sweep_looks_around_each_rate_and_at_embeddings() -> None:
    runs = sweep_runs(RATES, {})
    assert len(runs) == len(OPTIMIZERS) * len(FACTORS) + 3
    assert [run.name for run in runs if run.labels["optimizer"] == "bam"] == [
        f"sweep-bam-{rate}" for rate in ("0.0025", "0.0035", "0.005", "0.007", "0.01")
    ]
    embedding = [run for run in runs if run.labels["stage"] == "embedding"]
    assert [run.settings[-1] for run in embedding] == [
        f"embedding_adam.learning_rate={rate}" for rate in (0.004, 0.008, 0.032)
    ]


def test_finals_take_each_best_rate_with_three_seeds() -> None:
    entries = swept({"sweep-normuon-0.014": 4.0, "sweep-muon-0.04": None, "sweep-bam-0.005": 4.2})
    runs = final_runs(entries)
    assert len(runs) == 15
    normuon = [run for run in runs if run.labels["optimizer"] == "normuon"]
    assert [run.name for run in normuon] == [f"final-normuon-{s}" for s in (1337, 1338, 1339)]
    assert all(run.settings[1] == "optimizers.normuon.learning_rate=0.014" for run in normuon)
    (small,) = small_runs(entries)
    assert small.settings[:2] == ("model=small", "schedule=small")
    assert small.settings[3] == "optimizers.normuon.learning_rate=0.014"
    assert final_runs({}) == small_runs({}) == parts_runs(entries) == []


def test_a_part_too_near_to_the_baseline_gets_a_second_seed() -> None:
    entries = with_finals([4.00, 4.01, 4.02])  # mean 4.01, standard deviation 0.01
    first = parts_runs(entries)
    assert [run.seed for run in first] == [1337] * len(PARTS) + [1338]
    assert first[-1].labels["part"] == "head in float8"
    losses = dict.fromkeys(PARTS, 4.031) | {"without smear": 4.029, "without backout": 3.989}
    for run in first:
        entries[run.name] = recorded(run, losses[run.labels["part"]])
    entries["parts-swiglu-1337"] = recorded(first[list(PARTS).index("swiglu")], None)
    again = [run.labels["part"] for run in parts_runs(entries) if run.seed == 1338]
    assert again == ["without smear", "head in float8"]
