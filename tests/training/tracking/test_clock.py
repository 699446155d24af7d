"""Only steps count, and a resumed clock continues."""

import time

import pytest
import torch

from ramengpt.training.tracking.clock import StepClock


def test_steps_add_up_and_the_time_between_them_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = StepClock(torch.device("cpu"), seconds=100.0)
    read = []
    for step_seconds in (2.0, 3.0):
        end = clock.start()
        now += step_seconds
        read.append(end())
        now += 50.0
    assert clock.seconds == 100.0
    assert [reading() for reading in read] == [2.0, 3.0]
    assert clock.seconds == 105.0


@pytest.mark.gpu
def test_a_step_on_the_gpu_lasts_as_long_as_the_gpu_works() -> None:
    device = torch.device("cuda")
    clock = StepClock(device, seconds=0.0)
    matrix = torch.randn(4096, 4096, device=device)
    torch.cuda.synchronize()
    started = time.perf_counter()
    end = clock.start()
    for _ in range(50):
        matrix @ matrix
    reading = end()
    launched = time.perf_counter() - started
    torch.cuda.synchronize()
    whole = time.perf_counter() - started
    assert launched < 0.5 * whole, "nothing waited"
    assert reading() == pytest.approx(whole, rel=0.3)
