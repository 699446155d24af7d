"""The state of a run in its checkpoints: all that decides what follows a step."""

from collections.abc import Mapping
from typing import Any

import torch

from ramengpt.data.batches.batcher import START
from ramengpt.model.gpt import GPT
from ramengpt.optimizers import OptimizerSet
from ramengpt.progress import say
from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.session.checkpoint import CheckpointFolder
from ramengpt.training.training_run import TrainingRun

AT_THE_START: Mapping[str, Any] = {
    "step": 0,
    "tokens": 0,
    "seconds": 0.0,
    "budget_seconds": 0.0,
    "cursor": START.to_json(),
    "tracker": {},
    "environments": [],
    "loss_scale": None,
}


def state_after(plan: StepPlan, run: TrainingRun) -> dict[str, Any]:
    """All that decides what follows a step."""
    on_cuda = torch.cuda.is_initialized()
    return {
        "step": plan.step + 1,
        "tokens": plan.tokens_before + plan.tokens,
        "budget_seconds": run.budget.seconds,
        "model": run.model.state_dict(),
        "optimizers": run.optimizers.state_dict(),
        "cursor": run.batches.cursor,
        "random": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if on_cuda else None,
        },
        "tracker": run.tracker.state(),
        "seconds": run.measurements.clock.seconds,
        "loss_scale": run.loss_scale.state_dict() if run.loss_scale else None,
        "environments": [dict(environment) for environment in run.environments],
    }


def resume(
    checkpoints: CheckpointFolder, model: GPT, optimizers: OptimizerSet
) -> Mapping[str, Any]:
    """Restore model, optimizers and random state from the newest checkpoint, if there is one.

    Returns:
        What is in :data:`AT_THE_START`, from which the rest of the run is built.
    """
    state, skipped = checkpoints.load_newest()
    for line in skipped:
        say(line)
    if state is None:
        return AT_THE_START
    model.load_state_dict(state["model"])
    optimizers.load_state_dict(state["optimizers"])
    torch.set_rng_state(state["random"]["cpu"].cpu())
    if state["random"]["cuda"] is not None:
        torch.cuda.set_rng_state(state["random"]["cuda"].cpu())
    return state
