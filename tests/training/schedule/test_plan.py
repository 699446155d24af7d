"""Every value of a plan at every boundary, and that steps do not depend on each other."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ramengpt.config.optimizer_blocks import MomentumConfig
from ramengpt.config.schedule import ScheduleConfig
from ramengpt.training.schedule.plan import interpolate, micro_batches_at, plan_run, stage_start

MOMENTUM = MomentumConfig(
    start=0.85, peak=0.95, end=0.8, warmup_fraction=0.25, cooldown_fraction=0.1
)


def schedule(**changes) -> ScheduleConfig:
    """A schedule of 40 + 10 steps; `learning_rate__floor=0.2` changes a nested value."""
    values = {
        "micro_batch_tokens": 256,
        "scheduled_steps": 40,
        "extension_steps": 10,
        "batch": {
            "shape": "stepped",
            "fractions": [0.0, 0.25, 0.5, 0.75],
            "micro_batches": [1, 2, 4, 8],
        },
        "window": {
            "fractions": [0.0, 0.5, 1.0],
            "tokens": [128, 256, 384],
            "validation_tokens": 512,
        },
        "sequence": {"fractions": [0.0, 0.3], "tokens": [128, 256]},
        "learning_rate": {
            "warmup_steps": 4,
            "cooldown_shape": "linear",
            "cooldown_fraction": 0.5,
            "floor": 0.1,
            "batch_exponent": 0.0,
        },
        "embedding_split_fraction": 0.6,
        "extra_losses": {
            "fractions": [0.0, 0.25, 0.75],
            "second_token": [0.5, 0.5, 0.0],
            "third_token": [0.25, 0.0, 0.0],
            "prefix": [0.0, 0.0, 0.1],
        },
        "scalar_freeze_steps": 3,
    }
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (values[section] if section else values)[name] = value
    return ScheduleConfig.model_validate(values)


def column(config: ScheduleConfig, name: str) -> list:
    return [getattr(plan, name) for plan in plan_run(config, MOMENTUM)]


def test_every_scheduled_and_extension_step_is_planned() -> None:
    assert column(schedule(), "step") == list(range(50))


def test_batch_doubles_by_quarters_of_the_scheduled_steps_and_stays() -> None:
    assert column(schedule(), "micro_batches") == [1] * 10 + [2] * 10 + [4] * 10 + [8] * 20


def test_tokens_before_sums_the_earlier_steps() -> None:
    plans = plan_run(schedule(), MOMENTUM)
    assert plans[0].tokens_before == 0
    assert all(b.tokens_before == a.tokens_before + a.tokens for a, b in pairwise(plans))
    assert plans[-1].tokens_before + plans[-1].tokens == 256 * 10 * (1 + 2 + 4 + 8 + 8)


def test_window_changes_by_fractions_and_again_for_the_extension() -> None:
    assert column(schedule(), "window_tokens") == [128] * 20 + [256] * 20 + [384] * 10


def test_sequence_changes_by_fractions() -> None:
    assert column(schedule(), "sequence_tokens") == [128] * 12 + [256] * 38


def test_learning_rate_warms_up_stays_cools_down_linearly_and_extends_at_the_floor() -> None:
    rates = column(schedule(), "learning_rate_multiplier")
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4:21] == [1.0] * 17
    assert rates[30] == pytest.approx(0.55)
    assert rates[40:] == [0.1] * 10


@pytest.mark.parametrize(
    ("shape", "middle"), [("linear", 0.55), ("cosine", 0.55), ("exponential", 0.1**0.5)]
)
def test_cooldown_shapes_meet_at_both_ends(shape: str, middle: float) -> None:
    config = schedule(learning_rate__cooldown_shape=shape)
    rates = column(config, "learning_rate_multiplier")
    assert rates[20] == 1.0
    assert rates[30] == pytest.approx(middle)
    assert rates[40] == 0.1
    assert all(later <= earlier for earlier, later in pairwise(rates[20:]))


def test_cosine_is_level_where_linear_is_not() -> None:
    cosine = column(schedule(learning_rate__cooldown_shape="cosine"), "learning_rate_multiplier")
    linear = column(schedule(), "learning_rate_multiplier")
    assert 1 - cosine[21] < (1 - linear[21]) / 5


def test_larger_batches_raise_the_top_of_the_learning_rate() -> None:
    config = schedule(learning_rate__batch_exponent=0.4, learning_rate__cooldown_fraction=0.0)
    rates = column(config, "learning_rate_multiplier")
    assert [rates[step] for step in (9, 10, 20, 30)] == pytest.approx(
        [1, 1.3195, 1.7411, 2.2974], abs=1e-4
    )


def test_momentum_warms_up_and_cools_down_over_all_steps() -> None:
    momentum = column(schedule(), "momentum")
    assert momentum[0] == 0.85
    assert momentum[6] == pytest.approx(0.85 + 0.1 * 6 / 12)
    assert momentum[12:45] == [0.95] * 33
    assert momentum[-1] == 0.8
    assert all(later < earlier for earlier, later in pairwise(momentum[44:]))


@pytest.mark.parametrize(("fraction", "tied_steps"), [(0.0, 0), (0.6, 24), (1.0, 50)])
def test_embedding_splits_at_its_fraction(fraction: float, tied_steps: int) -> None:
    tied = column(schedule(embedding_split_fraction=fraction), "embedding_tied")
    assert tied == [True] * tied_steps + [False] * (50 - tied_steps)


def test_extra_losses_are_linear_between_their_fractions_and_then_level() -> None:
    second, third = zip(*column(schedule(), "further_token_weights"), strict=True)
    assert list(second[:11]) == [0.5] * 11
    assert second[20] == pytest.approx(0.25)
    assert set(second[30:]) == {0.0}
    assert [third[step] for step in (0, 5, 10)] == pytest.approx([0.25, 0.125, 0.0])
    prefix = column(schedule(), "prefix_weight")
    assert [prefix[step] for step in (10, 20, 30, 49)] == pytest.approx([0.0, 0.05, 0.1, 0.1])


def test_transitions_are_where_batch_window_sequence_or_split_change() -> None:
    transitions = [i for i, changed in enumerate(column(schedule(), "transition")) if changed]
    assert transitions == [10, 12, 20, 24, 30, 40]


@pytest.mark.parametrize("freeze_steps", [0, 1, 3, 12, 900_000])
def test_scalars_freeze_for_exactly_so_many_steps_after_each_transition(freeze_steps: int) -> None:
    frozen = column(schedule(scalar_freeze_steps=freeze_steps), "scalars_frozen")
    expected = {
        step
        for transition in (10, 12, 20, 24, 30, 40)
        for step in range(transition, min(transition + freeze_steps, 50))
    }
    assert {step for step, is_frozen in enumerate(frozen) if is_frozen} == expected


def test_a_ramp_of_the_batch_freezes_nothing() -> None:
    config = schedule(batch__shape="linear", scalar_freeze_steps=1)
    plans = plan_run(config, MOMENTUM)
    assert [plan.step for plan in plans if plan.transition] == [12, 20, 24, 40]


@pytest.mark.parametrize("shape", ["linear", "cosine", "exponential"])
def test_ramps_pass_through_every_point_in_whole_micro_batches(shape: str) -> None:
    config = schedule(
        batch__shape=shape, batch__fractions=[0.0, 0.5, 1.0], batch__micro_batches=[2, 6, 40]
    )
    sizes = column(config, "micro_batches")
    assert (sizes[0], sizes[20], sizes[40], sizes[49]) == (2, 6, 40, 40)
    assert all(later >= earlier for earlier, later in pairwise(sizes))
    exact = interpolate(shape, 6, 40, 0.5)
    assert sizes[30] == round(exact)
    assert {"linear": 23.0, "cosine": 23.0, "exponential": (6 * 40) ** 0.5}[shape] == pytest.approx(
        exact
    )


@settings(deadline=None, max_examples=60)
@given(
    scheduled=st.integers(1, 60),
    extension=st.integers(0, 9),
    fractions=st.lists(st.floats(0.01, 1.0), max_size=4, unique=True),
    shape=st.sampled_from(["stepped", "linear", "cosine", "exponential"]),
    freeze=st.integers(0, 5),
    data=st.data(),
)
def test_plans_hold_for_any_schedule(
    *, scheduled, extension, fractions, shape, freeze, data
) -> None:
    fractions = [0.0, *sorted(fractions)]
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=len(fractions), max_size=len(fractions)))
    config = schedule(
        scheduled_steps=scheduled,
        extension_steps=extension,
        batch={"shape": shape, "fractions": fractions, "micro_batches": sizes},
        learning_rate__warmup_steps=0,
        scalar_freeze_steps=freeze,
    )
    plans = plan_run(config, MOMENTUM)
    assert len(plans) == scheduled + extension
    starts = [stage_start(fraction, scheduled) for fraction in fractions]
    for plan in plans:
        assert min(sizes) <= plan.micro_batches <= max(sizes)
        assert 0 < plan.learning_rate_multiplier <= 1
        assert 0.8 <= plan.momentum <= 0.95
        last_stage = max(i for i, start in enumerate(starts) if start <= plan.step)
        if shape == "stepped" or last_stage == len(starts) - 1:
            assert plan.micro_batches == sizes[last_stage]
        assert plan.micro_batches == micro_batches_at(config.batch, plan.step, scheduled)
        since = [plan.step - p.step for p in plans[: plan.step + 1] if p.transition]
        assert plan.scalars_frozen == (bool(since) and since[-1] < freeze)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch__fractions": [0.0, 0.5]}, "micro_batches"),
        ({"batch__fractions": [0.1, 0.25, 0.5, 0.75]}, "start at 0"),
        ({"batch__fractions": [0.0, 0.5, 0.25, 0.75]}, "increase"),
        ({"batch__micro_batches": [0, 1, 2, 3]}, "greater than 0"),
        ({"window__tokens": [128, 200, 384]}, "multiple of 128, found 200"),
        ({"window__validation_tokens": 100}, "multiple of 128, found 100"),
        ({"micro_batch_tokens": 128}, "longest sequence, 256"),
        ({"micro_batch_tokens": 300}, "multiple of 128"),
        ({"learning_rate__warmup_steps": 21}, "warmup_steps"),
        ({"learning_rate__cooldown_shape": "exponential", "learning_rate__floor": 0.0}, "floor"),
        ({"embedding_split_fraction": 2.0}, "less than or equal to 1"),
        ({"batch__shape": "sudden"}, "stepped"),
    ],
)
def test_impossible_schedules_are_refused_by_name(changes: dict, named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        schedule(**changes)


def test_momentum_ramps_must_not_overlap() -> None:
    with pytest.raises(ValidationError, match="at most 1"):
        MomentumConfig(start=0.8, peak=0.9, end=0.8, warmup_fraction=0.6, cooldown_fraction=0.6)
