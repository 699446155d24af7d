"""Steps in a budget of seconds: plans by share, also resumed and drawn ahead. Time is made up."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramengpt.config import load_config
from ramengpt.training.schedule.plan import plan_run
from ramengpt.training.schedule.run_steps import (
    NO_STOP_RULES,
    BudgetClock,
    PlannedSteps,
    StopRules,
    TimedSteps,
    steps_of_run,
)
from tests.conftest import ROOT

CONFIG = load_config(["schedule=base"], ROOT / "params.yaml")
PLANS = plan_run(CONFIG.schedule, CONFIG.optimizer.momentum)


class Time:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def timed(
    time: Time, budget_seconds: float = 100.0, spent: float = 0.0, step: int = 0, tokens: int = 0
) -> tuple[TimedSteps, BudgetClock]:
    clock = BudgetClock(spent, time)
    clock.run()
    resumed = {"step": step, "tokens": tokens}
    steps = steps_of_run(PLANS, StopRules(None, budget_seconds), clock, resumed)
    assert isinstance(steps, TimedSteps)
    return steps, clock


def train(steps: TimedSteps, time: Time, step_seconds: float, at_most: int = 10**6) -> list:
    made = []
    for plan in steps:
        time.seconds += step_seconds
        made.append(plan)
        if steps.is_last(plan) or len(made) == at_most:
            break
    return made


def settings_of(plan) -> tuple:
    """What does not count steps or tokens of the run itself."""
    return (
        plan.micro_batches,
        plan.sequence_tokens,
        plan.window_tokens,
        plan.learning_rate_multiplier,
        plan.momentum,
        plan.embedding_tied,
        plan.further_token_weights,
        plan.prefix_weight,
    )


@pytest.mark.parametrize("stretch", [0.5, 1.0, 4.0])
def test_the_schedule_follows_the_share_of_the_budget(stretch: float) -> None:
    """A step of the same share has the schedule's plan, whatever the number of steps."""
    time = Time()
    steps, _ = timed(time, budget_seconds=float(len(PLANS)))
    made = train(steps, time, 1 / stretch)
    assert len(made) == round(stretch * len(PLANS))
    for plan in made:
        share_steps = int(plan.step / stretch + 1e-9)
        assert settings_of(plan) == settings_of(PLANS[share_steps])
        assert plan.step / plan.run_steps == pytest.approx(plan.step / len(made), abs=0.002)
    assert [plan.step for plan in made] == list(range(len(made)))
    for before, after in pairwise(made):
        assert after.tokens_before == before.tokens_before + before.tokens


@given(st.lists(st.floats(0.01, 30), min_size=50, max_size=50), st.floats(1, 200))
def test_steps_of_any_length_end_with_the_budget_and_never_go_back(
    seconds: list[float], budget_seconds: float
) -> None:
    time = Time()
    steps, clock = timed(time, budget_seconds)
    made = []
    for plan, step_seconds in zip(steps, seconds, strict=False):
        spent = clock.seconds
        assert spent < budget_seconds
        time.seconds += step_seconds
        made.append(plan)
        if steps.is_last(plan):
            assert clock.seconds >= budget_seconds
            break
    tied = [plan.embedding_tied for plan in made]
    assert tied == sorted(tied, reverse=True)
    assert all(plan.step < plan.run_steps for plan in made)


def test_a_resumed_run_keeps_the_seconds_already_spent() -> None:
    whole_time, time = Time(), Time()
    whole = train(timed(whole_time)[0], whole_time, 0.5)
    first, clock = timed(time)
    begun = train(first, time, 0.5, at_most=77)
    last = begun[-1]
    time.seconds += 12345.0  # until it is resumed
    resumed, _ = timed(
        time,
        spent=clock.seconds - 12345.0,
        step=last.step + 1,
        tokens=last.tokens_before + last.tokens,
    )
    assert begun + train(resumed, time, 0.5) == whole


def test_of_steps_that_were_asked_for_ahead_only_the_batch_is_settled() -> None:
    time = Time()
    steps, _ = timed(time, budget_seconds=3.0)
    loader, ahead = steps.ahead(), []
    made = []
    for plan in steps:
        ahead += [next(loader) for _ in range(3 - len(ahead) + len(made))]
        time.seconds += 1.0
        made.append(plan)
        if steps.is_last(plan):
            break
    assert len(made) == 3
    assert len(ahead) == 5
    for plan, settled, share in zip(made, ahead, (0, 1 / 3, 2 / 3), strict=False):
        assert plan.tokens == settled.tokens == PLANS[0].tokens
        assert plan.tokens_before == settled.tokens_before
        assert plan.window_tokens == PLANS[int(share * len(PLANS))].window_tokens
    assert len({plan.window_tokens for plan in made}) == 2
    with pytest.raises(StopIteration):
        next(loader)


def test_a_clock_counts_only_while_it_runs() -> None:
    time = Time()
    clock = BudgetClock(5.0, time)
    time.seconds += 60  # compiles
    with clock.paused():
        time.seconds += 1
    assert clock.seconds == 5.0
    clock.run()
    time.seconds += 2
    clock.run()
    time.seconds += 2
    with clock.paused():
        time.seconds += 30
        assert clock.seconds == 9.0
    time.seconds += 1
    assert clock.seconds == 10.0


def test_without_a_budget_the_remaining_plans_are_made() -> None:
    resumed = {"step": 418, "tokens": 0}
    steps = steps_of_run(PLANS, NO_STOP_RULES, BudgetClock(0.0, Time()), resumed)
    assert isinstance(steps, PlannedSteps)
    assert list(steps) == list(PLANS[418:])
    assert [steps.is_last(plan) for plan in steps] == [False, True]
    assert steps.position(PLANS[418]) == "step 419 of 420"


def test_the_position_in_a_budget_is_in_seconds() -> None:
    time = Time()
    steps, _ = timed(time)
    (plan,) = train(steps, time, 12.4, at_most=1)
    assert steps.position(plan) == "step 1, 12 of 100 seconds"


def test_the_record_has_what_the_rules_ask_for() -> None:
    assert NO_STOP_RULES.record(loss_reached=False, spent_seconds=1.0) == {}
    assert StopRules(3.28, 300.0).record(loss_reached=True, spent_seconds=299.0) == {
        "stop": {
            "at_loss": 3.28,
            "loss_reached": True,
            "after_seconds": 300.0,
            "spent_seconds": 299.0,
        }
    }
