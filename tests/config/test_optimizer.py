"""What optimizers share, and what an entry may hold of its own."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ramengpt.config import ConfigError, load_config
from tests.conftest import ROOT

PARAMS = ROOT / "params.yaml"


def load(*overrides: str):
    return load_config(overrides, PARAMS)


def test_rules_share_the_blocks_that_their_entries_do_not_hold() -> None:
    shared = load("optimizer=muon", "momentum.peak=0.9", "polar.steps=7").optimizer
    assert (shared.momentum.peak, shared.polar.steps) == (0.9, 7)
    own = load("optimizer=aro", "momentum.peak=0.9", "optimizers.aro.momentum.peak=0.8").optimizer
    assert own.momentum.peak == 0.8
    assert load("optimizer=adam", "momentum.peak=0.9").optimizer.momentum.peak == 0.9
    assert load("optimizer=adam", "optimizers.adam.beta1=0.7").optimizer.momentum.peak == 0.7


def test_blocks_that_are_equal_stand_once() -> None:
    params = YAML(typ="safe").load(PARAMS.read_text())
    for block in ("momentum", "polar"):
        own = [entry[block] for entry in params["optimizers"].values() if block in entry]
        assert params[block] not in own
        assert all(own.count(values) == 1 for values in own) or block == "momentum"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("momentum.peak=1.5", "momentum.peak: expected less than 1, found 1.5"),
        ("polar.steps=0", "polar.steps: expected greater than 0, found 0"),
        ("optimizers.aro.momentum.peak=1.5", "optimizers.aro.momentum.peak: expected less than 1"),
        ("optimizers.muon.rule=moun", "optimizers.muon: expected"),
        ("optimizers.muon.warmup_steps=-1", "optimizers.muon.warmup_steps: expected greater than"),
        ("optimizers.muon.beta2=0.9", "optimizers.muon.beta2: unknown key"),
    ],
)
def test_a_mistake_in_a_shared_block_is_one_line(override: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(override)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_shared_block_is_one_line(tmp_path: Path) -> None:
    params = YAML(typ="safe").load(PARAMS.read_text())
    del params["momentum"]
    file = tmp_path / "params.yaml"
    with file.open("w") as stream:
        YAML().dump(params, stream)
    with pytest.raises(ConfigError) as caught:
        load_config(path=file)
    assert str(caught.value).endswith("momentum: missing")
    assert "\n" not in str(caught.value)


def test_an_optimizers_own_rates_and_warmup_take_the_place_of_the_shared_ones() -> None:
    own = "optimizers.muon"
    settings = [
        f"{own}.warmup_steps=20",
        f"{own}.embedding_learning_rate=0.3",
        f"{own}.head_learning_rate=0.004",
        f"{own}.scalar_learning_rate=0.015",
    ]
    config = load("optimizer=muon", *settings)
    assert config.schedule.learning_rate.warmup_steps == 20
    assert config.embedding_adam.learning_rate == 0.3
    assert config.optimizer.head_learning_rate == 0.004
    assert config.scalar_adam.learning_rate == 0.015
    other = load("optimizer=normuon", *settings)
    assert other == load("optimizer=normuon")


def test_an_own_warmup_must_fit_the_schedule() -> None:
    with pytest.raises(ConfigError, match="warmup_steps"):
        load("optimizer=muon", "schedule=instant", "optimizers.muon.warmup_steps=200")
