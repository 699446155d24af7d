"""Where arms are searched: values, settings and ranges, and that params.yaml takes all of them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.study.arms import STAGES, Arm, arm_called, start_of
from benchmarks.study.space import HOOKS, OWN, RATES, Dimension
from benchmarks.study.task import SELECTION_SEED, TASKS, evaluation_seeds
from benchmarks.study.trials import Trial, first_round, including, later_round, rounds_of, widened
from ramengpt.config import load_config
from ramengpt.errors import UserError
from ramengpt.training.session.settings import RunOptions, plans_of
from tests.conftest import ROOT

PARAMS = ROOT / "params.yaml"
BASE = TASKS["base"].lasting(1)
RATE = Dimension("rate", 0.01, 1.0, ("optimizers.{}.learning_rate",))
BETA = Dimension("1 - beta2", 0.01, 0.2, ("optimizers.{}.beta2",), from_one=True)
WARMUP = Dimension("warm-up", 0, 40, ("optimizers.{}.warmup_steps",), whole=True)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_320_steps_of_one_size_shuffled_by_the_seed(task: str) -> None:
    config = load_config(list(TASKS[task].lasting(1)), PARAMS)
    plans = plans_of(config, RunOptions(None, None))
    assert (len(plans), len({plan.tokens for plan in plans})) == (320, 1)
    assert config.reading.order == "shuffled"
    longer = load_config([*TASKS[task].lasting(1), *TASKS[task].lasting(2)], PARAMS)
    assert len(plans_of(longer, RunOptions(None, None))) == 640


@pytest.mark.parametrize("name", [*RATES, *(f"normuon+{hook}" for hook in HOOKS)])
def test_params_yaml_takes_what_is_searched(name: str) -> None:
    arm = arm_called(name)
    dimensions = [each for stage in STAGES for each in arm.space(stage)]
    assert len({each.name for each in dimensions}) == len(dimensions)
    ends = [(each.low, each.high)[number % 2] for number, each in enumerate(dimensions)]
    values = {each.name: end for each, end in zip(dimensions, ends, strict=True)}
    config = load_config([*BASE, *arm.settings(values)], PARAMS)
    assert config.optimizer_name == arm.optimizer
    assert config.optimizer.learning_rate == pytest.approx(values["learning rate"])
    assert config.embedding_adam.learning_rate == pytest.approx(values["embeddings' rate"])
    if "1 - momentum" in values:
        assert config.optimizer.momentum.peak == pytest.approx(1 - values["1 - momentum"])


@pytest.mark.parametrize("name", ["adamw", "normuon", "muon_jordan", "muon_hyperball"])
def test_a_search_begins_at_params_yaml(name: str) -> None:
    arm = Arm(name)
    plain = load_config([*BASE, f"optimizer={name}"], PARAMS)
    started = load_config([*BASE, *arm.settings(start_of(arm, BASE))], PARAMS)
    assert plans_of(started, RunOptions(None, None)) == plans_of(plain, RunOptions(None, None))
    unset = {"head_learning_rate", "embedding_learning_rate", "scalar_learning_rate"}
    unset |= {"warmup_steps"}
    assert started.optimizer.model_dump(exclude=unset) == plain.optimizer.model_dump(exclude=unset)
    assert started.embedding_adam == plain.embedding_adam
    assert started.scalar_adam == plain.scalar_adam


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_acts_while_rates_are_searched_at_the_strength_where_its_search_begins(
    hook: str,
) -> None:
    arm = arm_called(f"muon+{hook}")
    start = start_of(arm, BASE)
    rates = {each.name: start[each.name] for each in arm.space("rates")}
    searched = load_config([*BASE, *arm.settings(rates)], PARAMS).hooks
    assert searched == load_config([*BASE, *arm.settings(start)], PARAMS).hooks
    assert searched != load_config(list(BASE), PARAMS).hooks


def test_an_arm_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="no optimizer 'lion'; there are adamw"):
        arm_called("lion")
    with pytest.raises(UserError, match="no hook 'swa'; there are ema_nesterov"):
        arm_called("adamw+swa")


def test_values_become_settings() -> None:
    assert RATE.settings(0.00005, "muon", 0.00005) == ("optimizers.muon.learning_rate=0.00005",)
    assert BETA.settings(0.05, "adam", 0.01) == ("optimizers.adam.beta2=0.95",)
    assert WARMUP.settings(7.0, "adam", 0.01) == ("optimizers.adam.warmup_steps=7",)
    momentum = OWN["muon"][-1]
    assert momentum.settings(0.1, "muon", 0.01) == (
        "optimizers.muon.momentum=ramped",
        "momentum_schedules.ramped.peak=0.9",
    )
    decay = RATES["muon"][-1]
    assert decay.settings(0.0138, "muon", 0.022) == ("optimizers.muon.weight_decay=28.5",)


def test_a_range_with_the_best_at_its_edge_grows_there() -> None:
    # Two decades; the outer tenth begins at 10 ^ 0.2 of an end, and it grows by half a decade.
    assert [RATE.edge_of(value) for value in (0.015, 0.017, 0.6, 0.7)] == ["low", "", "", "high"]
    grown = RATE.widened(0.7)
    assert (grown.low, grown.high) == (0.01, 3.16)
    assert RATE.widened(0.011).low == pytest.approx(0.00316)
    assert RATE.widened(0.1) == RATE
    assert [WARMUP.edge_of(value) for value in (0, 36, 37)] == ["", "", "high"]
    assert WARMUP.widened(40).high == 50
    assert Dimension("1 - beta", 0.1, 0.8, (), from_one=True).widened(0.8).high == 0.9


def test_ranges_reach_as_far_as_what_was_tried() -> None:
    found = including((RATE, WARMUP), [Trial((0.005, 60.0), 3.0), Trial((0.1, 0.0), math.inf)])
    assert [(each.low, each.high) for each in found] == [(0.005, 1.0), (0, 60)]
    assert widened((RATE, WARMUP), [Trial((0.1, 3.0), 2.0), Trial((1.0, 40.0), 3.0)]) == (
        RATE,
        WARMUP,
    )


def test_half_of_the_trials_come_first() -> None:
    assert rounds_of(8) == [range(4), range(4, 6), range(6, 8)]
    assert rounds_of(5) == [range(3), range(3, 5)]
    assert rounds_of(3) == [range(2), range(2, 3)]


def test_the_first_round_starts_where_params_yaml_is_and_fills_the_space() -> None:
    start, *others = first_round((RATE, WARMUP), (0.5, 10.0), 9)
    assert start == {"rate": 0.5, "warm-up": 10.0}
    assert len({each["rate"] < 0.1 for each in others}) == 2
    assert len({each["warm-up"] < 20 for each in others}) == 2
    assert first_round((RATE, WARMUP), None, 8) == tuple(others)


def test_later_rounds_approach_the_best() -> None:
    """On a bowl, the best of twelve trials lies nearer to its bottom than the best of the first."""

    def loss(rate: float, beta: float) -> float:
        return 2.0 + 0.05 * math.log2(rate / 0.3) ** 2 + 0.02 * math.log2(beta / 0.03) ** 2

    space = (RATE, BETA)
    first = first_round(space, (0.02, 0.15), 6)
    tried = [Trial(tuple(v.values()), loss(*v.values())) for v in first]
    best_of_first = min(trial.loss for trial in tried)
    for _ in range(3):
        proposed = later_round(space, tuple(tried), 2)
        assert proposed == later_round.__wrapped__(space, tuple(tried), 2)  # the same once more
        for values in proposed:
            assert all(d.low <= values[d.name] <= d.high for d in space)
        tried += [Trial(tuple(v.values()), loss(*v.values())) for v in proposed]
    assert min(trial.loss for trial in tried) < best_of_first


def test_a_diverged_trial_leads_elsewhere_not_into_an_error() -> None:
    tried = (Trial((1.0,), math.inf), Trial((0.1,), 2.5), Trial((0.05,), 2.6))
    assert len(later_round((RATE,), tried, 2)) == 2
    assert len(later_round((RATE,), (Trial((1.0,), math.inf), Trial((0.5,), math.inf)), 2)) == 2


@settings(deadline=None)
@given(st.integers(2, 1000))
def test_no_seed_selects_and_evaluates(count: int) -> None:
    seeds = evaluation_seeds(count)
    assert len(set(seeds)) == count and SELECTION_SEED not in seeds


@pytest.mark.parametrize("name", [name for name, space in RATES.items() if space[1].rate_power])
def test_decay_is_searched_as_the_share_that_a_step_removes(name: str) -> None:
    values = {"learning rate": 0.02, "decay per step": 0.01}
    optimizer = load_config([*BASE, *Arm(name).settings(values)], PARAMS).optimizer
    power = {"rate": 1, "rate_squared": 2}[optimizer.decay_scale]
    assert optimizer.weight_decay * 0.02**power == pytest.approx(0.01)
    assert RATES[name][1].low < 0.01 < RATES[name][1].high
