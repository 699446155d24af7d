"""All optimizers of a run behind one step: groups, the tied embedding, clipping, state."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from ramengpt.config.hooks import HooksConfig
from ramengpt.optimizers.groups import GROUPS, Group, LabelledParameter
from ramengpt.optimizers.hooks import make_hooks
from ramengpt.optimizers.param_group import EmbeddingPair, ParamGroup, StepSettings
from ramengpt.optimizers.stacks import gradient_of


class OptimizerSet:
    """Updates every parameter of a model; made by `build_optimizers`.

    While the embedding is tied the head's optimizer updates both with the sum of their gradients.
    In the first step in which it is not, the embedding takes over the head's moments.
    """

    def __init__(
        self,
        parameters: Sequence[LabelledParameter],
        param_groups: Sequence[ParamGroup],
        pair: EmbeddingPair | None,
        max_grad_norms: dict[Group, float],
        hooks: HooksConfig,
        *,
        embedding_tied: bool,
    ) -> None:
        assert pair or not embedding_tied
        self._parameters = {
            group: [entry for entry in parameters if entry.group == group] for group in GROUPS
        }
        self.param_groups = tuple(param_groups)
        self._pair = pair
        self._max_grad_norms = max_grad_norms
        self._embedding_tied = embedding_tied
        if pair and embedding_tied:
            pair.copy_weight()
        self._hooks = make_hooks(hooks, [entry.parameter.detach() for entry in parameters])

    @torch.no_grad()
    def before_forward(self, settings: StepSettings) -> None:
        """Let the hooks move the weights to where this step's gradient is computed."""
        for hook in self._hooks:
            hook.before_forward(settings)

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Put the weights to evaluate into the parameters, inside the block."""
        with ExitStack() as stack:
            for hook in self._hooks:
                stack.enter_context(hook.evaluation_weights())
            yield

    @torch.no_grad()
    def clip_gradients(self, settings: StepSettings) -> dict[str, Tensor]:
        """Scale down each group's gradient if its norm is above the group's limit.

        Call it between the last backward pass and `step`.

        Args:
            settings: of the coming step; a tied embedding's gradient counts as part of the head's.
        Returns:
            For each group that has parameters the norm before clipping, float32 on the device.
        """
        if pair := self._tied_pair(settings):
            pair.merge_gradients()
        norms: dict[str, Tensor] = {}
        for group, entries in self._parameters.items():
            if not entries:
                continue
            gradients = [gradient_of(entry) for entry in entries]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            limit = self._max_grad_norms[group]
            if limit > 0:
                torch._foreach_mul_(gradients, limit / norm.clamp_min(limit))
            norms[group] = norm
        return norms

    @torch.no_grad()
    def step(self, settings: StepSettings) -> None:
        """Update all parameters from their gradients, without waiting for the device.

        Raises:
            ValueError: a parameter has no gradient, or a split embedding would be tied again.
        """
        self._enter_phase(embedding_tied=settings.embedding_tied)
        tied_pair = self._tied_pair(settings)
        if tied_pair:
            tied_pair.merge_gradients()
        for param_group in self.param_groups:
            frozen = settings.scalars_frozen and param_group.group == "scalar"
            follows_head = tied_pair is not None and param_group is tied_pair.embedding_group
            if not frozen and not follows_head:
                param_group.step(settings)
        if tied_pair:
            tied_pair.copy_weight()
        for hook in self._hooks:
            hook.after_step(settings)

    def _tied_pair(self, settings: StepSettings) -> EmbeddingPair | None:
        """Embedding and head, while the plan ties them."""
        return self._pair if settings.embedding_tied else None

    def _enter_phase(self, *, embedding_tied: bool) -> None:
        """Split the embedding from the head when the plan does so for the first time."""
        if embedding_tied and not self._embedding_tied:
            raise ValueError("embedding and head have been split and cannot be tied again")
        if self._pair and self._embedding_tied and not embedding_tied:
            self._pair.embedding_group.inherit(self._pair.head_group)
        self._embedding_tied = embedding_tied

    def zero_grad(self) -> None:
        """Set all gradients to zero in place, for the next step to add to."""
        if gradients := self._gradients():
            torch._foreach_zero_(gradients)

    def scale_gradients(self, factor: float) -> None:
        """Multiply all gradients in place."""
        torch._foreach_mul_(self._gradients(), factor)

    def _gradients(self) -> list[Tensor]:
        """Those that there are."""
        return [
            entry.parameter.grad
            for entries in self._parameters.values()
            for entry in entries
            if entry.parameter.grad is not None
        ]

    def counters(self) -> dict[str, Tensor]:
        """Events that rules count, since the start of the run, still on the device."""
        return {
            f"{param_group.name}/{name}": param_group.state[name]
            for param_group in self.param_groups
            for name in param_group.rule.counters
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on except parameters, gradients and plan.

        Holds the live tensors, not copies: save it before the next step.
        """
        return {
            "embedding_tied": self._embedding_tied,
            "param_groups": {
                param_group.name: {
                    "members": list(param_group.stack.members),
                    "updates": param_group.updates,
                    "state": dict(param_group.state),
                }
                for param_group in self.param_groups
            },
            "hooks": {hook.name: hook.state for hook in self._hooks},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume from a saved state, copied into the existing tensors.

        Args:
            saved: from `state_dict` of the same rules over the same parameters.
        Raises:
            ValueError: it belongs to other parameters or rules; nothing has been changed then.
        """
        param_groups = saved["param_groups"]
        for param_group in self.param_groups:
            self._check_saved(param_group, param_groups.get(param_group.name))
        names = {param_group.name for param_group in self.param_groups}
        if unknown := sorted(param_groups.keys() - names):
            raise ValueError(f"saved optimizer state has unknown parts: {', '.join(unknown)}")
        hooks = [hook.name for hook in self._hooks]
        if sorted(saved["hooks"]) != sorted(hooks):
            raise ValueError(f"saved hooks: expected {hooks}, found {list(saved['hooks'])}")
        for hook in self._hooks:
            for name, tensors in hook.state.items():
                torch._foreach_copy_(tensors, saved["hooks"][hook.name][name])
        for param_group in self.param_groups:
            param_group.updates = param_groups[param_group.name]["updates"]
            for name, tensor in param_group.state.items():
                tensor.copy_(param_groups[param_group.name]["state"][name])
        self._embedding_tied = saved["embedding_tied"]

    @staticmethod
    def _check_saved(param_group: ParamGroup, saved: dict[str, Any] | None) -> None:
        """Refuse a saved state that does not fit a group."""
        if saved is None:
            raise ValueError(
                f"saved optimizer state lacks {param_group.name}: it is another model's"
            )
        if saved["members"] != param_group.stack.members:
            raise ValueError(f"saved optimizer state of {param_group.name} holds other parameters")
        expected = {name: (tuple(t.shape), t.dtype) for name, t in param_group.state.items()}
        found = {name: (tuple(t.shape), t.dtype) for name, t in saved["state"].items()}
        if expected != found:
            raise ValueError(
                f"saved optimizer state of {param_group.name} does not fit: expected {expected}, "
                f"found {found}"
            )
