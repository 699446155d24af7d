"""Optimizers' values that differ by schedule."""

import pytest

from ramengpt.config import ConfigError, load_config
from tests.conftest import ROOT

PARAMS = ROOT / "params.yaml"
RATE = "optimizers.muon.learning_rate"


def rate(schedule: str, value: str) -> float:
    chosen = ["optimizer=muon", f"schedule={schedule}", f"{RATE}={value}"]
    return load_config(chosen, PARAMS).optimizer.learning_rate


@pytest.mark.parametrize(
    ("schedule", "expected"), [("base", 0.5), ("small", 0.1), ("instant", 0.1)]
)
def test_the_value_of_the_selected_schedule_counts(schedule: str, expected: float) -> None:
    assert rate(schedule, "{default: 0.1, base: 0.5}") == expected


def test_a_plain_value_replaces_those_of_all_schedules() -> None:
    assert rate("contest", "0.3") == rate("base", "0.3") == 0.3


def test_one_schedules_value_can_be_set_by_itself() -> None:
    chosen = ["optimizer=muon", f"{RATE}.contest=0.7"]
    contest, base = (
        load_config([*chosen, f"schedule={name}"], PARAMS) for name in ("contest", "base")
    )
    assert (contest.optimizer.learning_rate, base.optimizer.learning_rate) == (0.7, 0.02)


def test_a_shared_block_may_differ_by_schedule() -> None:
    key = "optimizers.muon.momentum={default: ramped, small: constant}"
    names = {}
    for schedule in ("base", "small"):
        config = load_config(["optimizer=muon", f"schedule={schedule}", key], PARAMS)
        names[schedule] = config.optimizer.momentum.start
    assert names == {"base": 0.85, "small": 0.95}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{base: 0.1}", "expected a key default, for all other schedules"),
        ("{default: 0.1, bose: 0.1}", "'bose' is not in schedules; did you mean 'base'?"),
        ("{default: 0.1, 3: 0.1}", "3 is not in schedules; choose one of: base, contest, default"),
        ("{default: 0.1, small: fast}", "found 'fast'"),
        ("{default: 0.1, small: -1}", "found -1"),
        ("{}", "found {}"),
        ("{default: null}", "found None"),
    ],
)
def test_what_is_wrong_is_named_whichever_schedule_is_selected(value: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        rate("base", value)
    text = str(error.value)
    assert f"{RATE}: " in text and message in text and "\n" not in text


@pytest.mark.parametrize("key", ["optimizers", "schedules"])
def test_what_is_no_table_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: expected dictionary, found 3"):
        load_config([f"{key}=3"], PARAMS)
