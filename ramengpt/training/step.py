"""One training step: the gradient of the mean loss over a plan's micro-batches, then one update."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ramengpt.data.batches.slices import Batch
from ramengpt.optimizers import OptimizerSet
from ramengpt.training.loss_scale import LossScale
from ramengpt.training.schedule.plan import StepPlan

LossFunction = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def accumulate_gradients(
    loss_function: LossFunction,
    batches: Iterator[Sequence[Batch]],
    micro_batches: int,
    scale: float = 1.0,
) -> Tensor:
    """Add the gradient of the mean loss over several micro-batches to ``.grad``.

    Equal to the gradient of one batch of all their tokens, since all hold equally many.

    Args:
        loss_function: (tokens_T, targets_T, positions_T, weights_T) -> their weighted loss, a
            float32 scalar; the mean without weights.
        batches: yields at least ``micro_batches`` of them, each as its slices.
        micro_batches: how many to take.
        scale: multiplies the gradient.

    Returns:
        The mean loss, float32 on the device; nothing here waits for the device.
    """
    losses = []
    for _ in range(micro_batches):
        for batch in next(batches):
            loss = loss_function(*batch)
            (loss / micro_batches * scale).backward()
            losses.append(loss.detach())
    return torch.stack(losses).sum() / micro_batches


def train_step(
    loss_function: LossFunction,
    batches: Iterator[Sequence[Batch]],
    optimizers: OptimizerSet,
    plan: StepPlan,
    loss_scale: LossScale | None = None,
) -> dict[str, Tensor]:
    """Run one training step.

    Args:
        loss_function: as in :func:`accumulate_gradients`.
        batches: yields this step's micro-batches next.
        optimizers: clip and update the parameters.
        plan: the schedule's values for this step.
        loss_scale: of a run in float16.

    Returns:
        `loss`, `gradient_norm_<group>`, and the optimizers' counters since the start of the run,
        summed over their stacks; scalars still on the device. In float16 also `loss_scale` and the
        `skipped_steps` of the run, and no norms of a skipped step.
    """
    optimizers.before_forward(plan)
    scale = loss_scale.value if loss_scale else 1.0
    loss = accumulate_gradients(loss_function, batches, plan.micro_batches, scale)
    if loss_scale:
        optimizers.scale_gradients(1 / scale)
    norms = optimizers.clip_gradients(plan)
    if loss_scale and loss_scale.must_skip(norms):
        norms = {}
    else:
        optimizers.step(plan)
    optimizers.zero_grad()
    measured = {"loss": loss} | {f"gradient_norm_{group}": norm for group, norm in norms.items()}
    counters = _summed_by_name(optimizers.counters())
    if loss_scale is None:
        return measured | counters
    scaling = {"loss_scale": scale, "skipped_steps": loss_scale.skipped_steps}
    return measured | counters | {name: torch.tensor(float(x)) for name, x in scaling.items()}


def _summed_by_name(counters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add up counters `<stack>/<name>` of the same name; float32, as the other values are."""
    parts: dict[str, list[Tensor]] = {}
    for path, counter in counters.items():
        parts.setdefault(path.rpartition("/")[2], []).append(counter)
    return {name: torch.stack(values).sum().float() for name, values in parts.items()}
