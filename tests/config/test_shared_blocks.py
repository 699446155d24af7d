"""What optimizers share by name."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ramengpt.config import ConfigError, load_config
from ramengpt.config.optimizer_blocks import SHARED_BLOCKS
from tests.config.loading import PARAMS, load, refusal
from tests.conftest import edited_params


def test_rules_share_the_blocks_that_they_name() -> None:
    changes = ["momentum_schedules.ramped.peak=0.9", "polynomials.polar_express.steps=7"]
    for name in ("muon", "normuon"):
        shared = load(f"optimizer={name}", f"optimizers.{name}.momentum=ramped", *changes).optimizer
        assert (shared.momentum.peak, shared.polar.steps) == (0.9, 7)
    aro = load("optimizer=aro", "optimizers.aro.momentum=constant", *changes).optimizer
    assert aro.momentum.peak == 0.95
    assert load("optimizer=adam", "optimizers.adam.beta1=0.7").optimizer.momentum.peak == 0.7
    other = load("optimizer=muon", "optimizers.muon.polar=newton_schulz").optimizer
    assert other.polar == load("optimizer=muon_jordan").optimizer.polar


def test_an_entry_may_hold_a_block_of_its_own() -> None:
    own = "{start: 0.5, peak: 0.5, end: 0.5, warmup_fraction: 0.0, cooldown_fraction: 0.0}"
    optimizer = load("optimizer=muon", f"optimizers.muon.momentum={own}").optimizer
    assert optimizer.momentum.peak == 0.5


def test_blocks_that_are_equal_stand_once() -> None:
    params = YAML(typ="safe").load(PARAMS.read_text())
    for block, table in SHARED_BLOCKS.items():
        blocks = [*params[table].values()]
        blocks += [
            entry[block]
            for entry in params["optimizers"].values()
            if isinstance(entry.get(block), dict)
        ]
        assert all(blocks.count(values) == 1 for values in blocks)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "momentum_schedules.ramped.peak=1.5",
            "momentum_schedules.ramped.peak: expected less than 1, found 1.5",
        ),
        ("polynomials.polar_express.steps=0", "polynomials.polar_express.steps: expected greater"),
        (
            "optimizers.muon.momentum=rampd",
            "optimizers.muon.momentum: 'rampd' is not in momentum_schedules; did you mean 'ramped'",
        ),
        ("optimizers.muon.momentum=0.9", "optimizers.muon.momentum: expected"),
        ("optimizers.muon.rule=moun", "optimizers.muon.rule: expected"),
        ("optimizers.muon.warmup_steps=-1", "optimizers.muon.warmup_steps: expected greater than"),
        ("optimizers.muon.beta2=0.9", "optimizers.muon.beta2: unknown key"),
    ],
)
def test_a_mistake_in_a_shared_block_is_one_line(override: str, line: str) -> None:
    assert line in refusal(override)


def test_a_missing_shared_block_is_one_line(tmp_path: Path) -> None:
    shutil.copy(PARAMS, tmp_path)
    with edited_params(tmp_path) as params:
        del params["momentum_schedules"]
    with pytest.raises(ConfigError) as caught:
        load_config(path=tmp_path / "params.yaml")
    assert str(caught.value).endswith("momentum_schedules: missing")
    assert "\n" not in str(caught.value)
