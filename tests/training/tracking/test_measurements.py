"""What a row says of a step."""

import psutil
import pytest
import torch

from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.tracking.clock import StepClock
from ramengpt.training.tracking.measurements import (
    Measurements,
    matmul_flops_per_second,
    peak_memory_gib,
)

PLAN = StepPlan(
    step=4,
    run_steps=100,
    micro_batches=3,
    micro_batch_tokens=100,
    sequence_tokens=50,
    window_tokens=128,
    learning_rate_multiplier=0.5,
    momentum=0.9,
    embedding_tied=True,
    scalars_frozen=False,
    transition=False,
    tokens_before=1000,
    further_token_weights=(0.0, 0.0),
    prefix_weight=0.0,
)


def measurements(flops_per_second: float | None) -> Measurements:
    cpu = torch.device("cpu")
    return Measurements(
        clock=StepClock(cpu, seconds=10.0),
        device=cpu,
        learning_rates={"hidden": 0.02, "scalar": 0.004},
        flops_per_token=lambda plan: 7.0 * plan.sequence_tokens,
        flops_per_second=flops_per_second,
    )


def known(row: dict) -> dict[str, float]:
    return {name: value() if callable(value) else value for name, value in row.items()}


def test_a_row_holds_plan_speed_and_share_of_the_ceiling() -> None:
    made = measurements(flops_per_second=1e6)

    def read_clock() -> float:
        made.clock.seconds += 2.0
        return 2.0

    row = known(made.of_step(PLAN, read_clock))
    assert row.pop("peak_memory_gib") == pytest.approx(peak_memory_gib(made.device), rel=0.1)
    assert row == {
        "learning_rate_hidden": 0.01,
        "learning_rate_scalar": 0.002,
        "tokens": 1300,
        "momentum": 0.9,
        "batch_tokens": 300,
        "sequence_tokens": 50,
        "window_tokens": 128,
        "step_seconds": 2.0,
        "seconds": 12.0,
        "tokens_per_second": 150.0,
        "mfu": pytest.approx(300 * 350 / 1e6 / 2),
    }
    assert made.of_validation(PLAN) == {"tokens": 1300, "seconds": 12.0}


def test_without_a_ceiling_there_is_no_share_of_it() -> None:
    assert "mfu" not in measurements(flops_per_second=None).of_step(PLAN, lambda: 1.0)


def test_memory_is_the_most_that_this_process_had() -> None:
    peak = peak_memory_gib(torch.device("cpu"))
    assert 0.95 * psutil.Process().memory_info().rss / 2**30 <= peak
    assert peak < psutil.virtual_memory().total / 2**30


def test_no_ceiling_is_measured_on_the_cpu() -> None:
    assert matmul_flops_per_second(torch.device("cpu"), torch.float32) is None


@pytest.mark.gpu
def test_the_ceiling_is_plausible_and_leaves_the_random_numbers_alone() -> None:
    before = torch.cuda.get_rng_state()
    rate = matmul_flops_per_second(torch.device("cuda", 0), torch.bfloat16)
    assert 1e13 < rate < 1e16
    assert torch.equal(before, torch.cuda.get_rng_state())
