"""The steps of a run: those of its plan, or as many as fit into a budget of seconds.

With a budget the schedule follows the share of it that is spent: a step is planned as the schedule
plans the step after the same share of its steps. So everything that the schedule counts in steps
(the warm-up, the freezing of scalars) is a share of the run too.

Nothing here needs torch, and the clock is passed in.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ramengpt.training.schedule.plan import StepPlan

ROUNDOFF = 1e-9
"""Tolerance of a share that should be a whole number of steps."""


@dataclass(frozen=True)
class StopRules:
    """What ends a run before the end of its schedule.

    Attributes:
        at_loss: held-out loss, nats/token; the first validation at or below it is the last.
        after_seconds: of training, without compilation, validation and checkpoints; the schedule
            is stretched or compressed to fit.
    """

    at_loss: float | None
    after_seconds: float | None

    def record(self, *, loss_reached: bool, spent_seconds: float) -> dict[str, Any]:
        """The entry `stop` of metrics.json; empty without rules."""
        record: dict[str, Any] = {}
        if self.at_loss is not None:
            record |= {"at_loss": self.at_loss, "loss_reached": loss_reached}
        if self.after_seconds is not None:
            record |= {"after_seconds": self.after_seconds, "spent_seconds": spent_seconds}
        return {"stop": record} if record else {}


NO_STOP_RULES = StopRules(at_loss=None, after_seconds=None)


class BudgetClock:
    """Counts seconds while it runs.

    Args:
        seconds: spent before a resume.
        time_source: monotonic seconds.
    """

    def __init__(self, seconds: float, time_source: Callable[[], float]) -> None:
        self._counted_seconds = seconds
        self._time_source = time_source
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Spent so far."""
        since = self._since
        return self._counted_seconds + (0.0 if since is None else self._time_source() - since)

    def run(self) -> None:
        """Start counting, unless it is counting already."""
        if self._since is None:
            self._since = self._time_source()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop counting inside the block."""
        was_running = self._since is not None
        self._counted_seconds, self._since = self.seconds, None
        try:
            yield
        finally:
            if was_running:
                self.run()


class RunSteps(Protocol):
    """The remaining steps of a run."""

    def __iter__(self) -> Iterator[StepPlan]:
        """The steps in order, each as it is made."""
        ...

    def ahead(self) -> Iterator[StepPlan]:
        """The same steps for the thread that loads their batches, whose shapes are then fixed."""
        ...

    def is_last(self, plan: StepPlan) -> bool:
        """Whether this step, which has just been made, is the last."""
        ...

    def position(self, plan: StepPlan) -> str:
        """How far a run is after a step, e.g. `step 5 of 12`."""
        ...


class PlannedSteps:
    """The steps of a plan.

    Args:
        plans: the remaining ones, at least one.
    """

    def __init__(self, plans: Sequence[StepPlan]) -> None:
        self._plans = plans

    def __iter__(self) -> Iterator[StepPlan]:
        return iter(self._plans)

    def ahead(self) -> Iterator[StepPlan]:
        """The steps as they are made."""
        return iter(self._plans)

    def is_last(self, plan: StepPlan) -> bool:
        """Whether it is the plan's last."""
        return plan.step == self._plans[-1].step

    def position(self, plan: StepPlan) -> str:
        """Step and number of steps."""
        return f"step {plan.step + 1} of {self._plans[-1].step + 1}"


class TimedSteps:
    """As many steps as fit into a budget of seconds.

    The shape of a step's batch is fixed when the step is first requested, usually by the thread
    that loads batches ahead; everything else when the step is made.

    Args:
        schedule_plans: of the whole schedule, whose steps stand for shares of the budget.
        budget_seconds: above 0.
        clock: of the seconds that count.
        first_step: number of the first remaining step.
        tokens_before: of all earlier steps.
    """

    def __init__(
        self,
        schedule_plans: Sequence[StepPlan],
        budget_seconds: float,
        clock: BudgetClock,
        *,
        first_step: int,
        tokens_before: int,
    ) -> None:
        self._schedule_plans = schedule_plans
        self._budget_seconds = budget_seconds
        self._clock = clock
        self._first_step = first_step
        self._tokens_before = tokens_before
        self._ahead: list[StepPlan] = []
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[StepPlan]:
        for settled in self.ahead():
            yield replace(
                self._plan_now(settled.step),
                micro_batches=settled.micro_batches,
                sequence_tokens=settled.sequence_tokens,
                tokens_before=settled.tokens_before,
            )

    def ahead(self) -> Iterator[StepPlan]:
        """The steps as they were first asked for."""
        step = self._first_step
        while (plan := self._settled(step)) is not None:
            yield plan
            step += 1

    def is_last(self, plan: StepPlan) -> bool:
        """Whether the budget is spent; a step that was planned ahead is not made then."""
        return self._clock.seconds >= self._budget_seconds

    def position(self, plan: StepPlan) -> str:
        """Step, and seconds spent."""
        spent = min(self._clock.seconds, self._budget_seconds)
        return f"step {plan.step + 1}, {spent:.0f} of {self._budget_seconds:g} seconds"

    def _settled(self, step: int) -> StepPlan | None:
        """A step as it was first asked for; None if the budget was spent before."""
        with self._lock:
            while len(self._ahead) <= step - self._first_step:
                if self._clock.seconds >= self._budget_seconds:
                    return None
                plan = self._plan_now(self._first_step + len(self._ahead))
                self._ahead.append(replace(plan, tokens_before=self._tokens_before))
                self._tokens_before += plan.tokens
            return self._ahead[step - self._first_step]

    def _plan_now(self, step: int) -> StepPlan:
        """The plan of this moment; `run_steps` is such that the step is that share of the run."""
        share = min(self._clock.seconds / self._budget_seconds, 1.0)
        schedule_steps = len(self._schedule_plans)
        run_steps = round(step / share) if share > 0 else step + schedule_steps
        return replace(
            self._schedule_plans[min(int(share * schedule_steps + ROUNDOFF), schedule_steps - 1)],
            step=step,
            run_steps=max(run_steps, step + 1),
        )


def steps_of_run(
    plans: Sequence[StepPlan], rules: StopRules, clock: BudgetClock, resumed: Mapping[str, int]
) -> RunSteps:
    """The steps that remain.

    Args:
        plans: of the whole schedule, or of its beginning if the run stops early.
        rules: of the run.
        clock: of the seconds that count against a budget.
        resumed: `step` and `tokens` that are done.
    """
    if rules.after_seconds is None:
        return PlannedSteps(plans[resumed["step"] :])
    return TimedSteps(
        plans,
        rules.after_seconds,
        clock,
        first_step=resumed["step"],
        tokens_before=resumed["tokens"],
    )
