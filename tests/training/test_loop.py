"""The loop with values that become known late, as they do on a GPU."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from ramengpt.inference.held_out_loss import HeldOutLoss
from ramengpt.training import loop
from ramengpt.training.loop import DivergedError, fit
from ramengpt.training.schedule.run_steps import BudgetClock, PlannedSteps
from ramengpt.training.session.interruption import InterruptedRunError, StopRequest

STEPS = 9


@dataclass
class LateTracker:
    """Gives a row back only when asked to wait for it."""

    waiting: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    directory: str = "the log"

    def log(self, step: int, row: Mapping[str, Any], table: str = "train") -> list[Any]:
        self.waiting.append((table, {"step": step, **row}))
        return []

    def flush(self) -> list[tuple[str, Mapping[str, Any]]]:
        rows, self.waiting = self.waiting, []
        return rows

    def state(self) -> dict[str, str]:
        assert not self.waiting, "a checkpoint is written only after its rows were looked at"
        return {}


@dataclass
class Checkpoints:
    folder: str = "the folder"
    saved: list[int] = field(default_factory=list)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        assert state["step"] == step
        self.saved.append(step)

    def steps(self) -> list[int]:
        return self.saved

    def path(self, step: int) -> str:
        return f"step-{step}"


class NoWindow:
    """A model that is nothing but its window."""

    def __init__(self) -> None:
        self.window = 0

    def set_window(self, tokens: int) -> None:
        self.window = tokens

    def set_extra_loss_weights(self, further_tokens: Sequence[float], prefix: float) -> None:
        step = self.window // 128 - 1
        assert (tuple(further_tokens), prefix) == ((0.5, 0.25), 0.125 * step)

    def temporary_window(self, tokens: int) -> Any:
        return pytest.MonkeyPatch.context()

    def state_dict(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loss of each step, to be changed by the test; validation gives 1.5."""
    losses = [2.0] * STEPS
    norms = {"gradient_norm_hidden": 0.5}
    monkeypatch.setattr(
        loop, "train_step", lambda *step_of: {"loss": losses[step_of[3].step]} | norms
    )
    monkeypatch.setattr(loop, "validation_loss", lambda *_: HeldOutLoss(1.5, 3.0))
    return losses


def a_run(shown: list[Any]) -> Any:
    clock = SimpleNamespace(start=lambda: lambda: lambda: 1.0, seconds=1.0)
    plans = [
        SimpleNamespace(
            step=step,
            window_tokens=128 * (step + 1),
            further_token_weights=(0.5, 0.25),
            prefix_weight=0.125 * step,
            tokens=10,
            tokens_before=10 * step,
        )
        for step in range(STEPS)
    ]
    return SimpleNamespace(
        model=NoWindow(),
        loss_function=None,
        optimizers=SimpleNamespace(state_dict=dict, evaluation_weights=nullcontext),
        plans=plans,
        steps=PlannedSteps(plans),
        budget=BudgetClock(0.0, lambda: 0.0),
        loss_scale=None,
        stop_at_loss=None,
        batches=SimpleNamespace(cursor={}),
        validation=SimpleNamespace(batches=list, window_tokens=128, every_steps=4, text_bytes=2),
        measurements=SimpleNamespace(
            clock=clock, of_step=lambda *_: {}, of_validation=lambda _: {"seconds": 1.0}
        ),
        tracker=LateTracker(),
        show=shown.extend,
        checkpoints=Checkpoints(),
        checkpoint_every_steps=3,
        environments=[],
    )


def test_every_row_is_shown_once_and_in_order(losses: list[float]) -> None:
    shown: list[Any] = []
    run = a_run(shown)
    assert not fit(run, StopRequest())
    assert run.model.window == 128 * STEPS
    assert run.checkpoints.saved == [3, 6]
    assert [(table, row["step"]) for table, row in shown] == [
        *(("train", step) for step in range(1, 5)),
        ("validation", 4),
        *(("train", step) for step in range(5, 9)),
        ("validation", 8),
        ("train", 9),
        ("validation", 9),
    ]
    assert shown[-1][1]["bits_per_byte"] == pytest.approx(1.5 / math.log(2))


@pytest.mark.parametrize("bad_step", range(STEPS))
@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_bad_loss_known_late_is_in_no_checkpoint(
    losses: list[float], bad_step: int, loss: float
) -> None:
    losses[bad_step] = loss
    run = a_run([])
    with pytest.raises(DivergedError, match=f"step {bad_step + 1}: the train loss is {loss}"):
        fit(run, StopRequest())
    assert run.checkpoints.saved == [step for step in (3, 6) if step <= bad_step]


def test_a_bad_loss_is_reported_rather_than_an_interruption(losses: list[float]) -> None:
    losses[1] = float("nan")
    stop = StopRequest()
    stop.signal = 15
    run = a_run([])
    run.plans[0].step = 1
    with pytest.raises(DivergedError):
        fit(run, stop)
    assert run.checkpoints.saved == []


def test_a_stop_saves_at_once(losses: list[float]) -> None:
    stop = StopRequest()
    stop.signal = 15
    run = a_run([])
    with pytest.raises(InterruptedRunError, match="stopped after step 1 of 9") as interrupted:
        fit(run, stop)
    assert interrupted.value.exit_status == 143
    assert run.checkpoints.saved == [1]


def test_without_checkpoints_nothing_is_saved_and_a_stop_says_so(losses: list[float]) -> None:
    run = a_run([])
    run.checkpoint_every_steps = 0
    fit(run, StopRequest())
    assert run.checkpoints.saved == []
    stop = StopRequest()
    stop.signal = 15
    with pytest.raises(InterruptedRunError, match="step 1 of 9, nothing is saved, since"):
        fit(run, stop)
    assert run.checkpoints.saved == []


@pytest.mark.parametrize(("at_loss", "last_step"), [(1.5, 4), (2.0, 4), (1.4, STEPS)])
def test_the_first_held_out_loss_low_enough_ends_the_run(
    losses: list[float], at_loss: float, last_step: int
) -> None:
    shown: list[Any] = []
    run = a_run(shown)
    run.stop_at_loss = at_loss
    assert fit(run, StopRequest()) == (at_loss >= 1.5)
    assert [(table, row["step"]) for table, row in shown][-1] == ("validation", last_step)
    assert run.checkpoints.saved == [step for step in (3, 6) if step < last_step]


def test_the_budget_counts_steps_after_the_first_but_no_validation_and_no_checkpoint(
    losses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def takes(seconds: float, result: Any) -> Any:
        def work(*arguments: Any) -> Any:
            now[0] += seconds
            return result(*arguments) if callable(result) else result

        return work

    run = a_run([])
    run.budget = BudgetClock(2.0, lambda: now[0])
    monkeypatch.setattr(loop, "train_step", takes(1.0, loop.train_step))
    monkeypatch.setattr(loop, "validation_loss", takes(100.0, HeldOutLoss(1.5, 3.0)))
    spent = []
    run.checkpoints.save = takes(50.0, lambda step, state: spent.append(state["budget_seconds"]))
    fit(run, StopRequest())
    assert spent == [2.0 + 2, 2.0 + 5]
    assert run.budget.seconds == 2.0 + STEPS - 1
