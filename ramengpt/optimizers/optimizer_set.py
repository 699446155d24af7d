"""All optimizers of a run behind one step: groups, the tied embedding, clipping, state."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ramengpt.optimizers.groups import GROUPS, Group, LabelledParameter
from ramengpt.optimizers.rule import StepScalars, UpdateRule
from ramengpt.optimizers.stacks import Stack, gradient_of


class StepSettings(Protocol):
    """What a step's plan says to the optimizers."""

    @property
    def learning_rate_multiplier(self) -> float:
        """Multiplies every group's learning rate."""

    @property
    def momentum(self) -> float:
        """Of the rule of the hidden matrices."""

    @property
    def embedding_tied(self) -> bool:
        """Embedding and head are one matrix."""

    @property
    def scalars_frozen(self) -> bool:
        """Scalars and gates are not updated; their gradients are dropped."""


@dataclass
class Unit:
    """A stack, the rule that updates it, and the rule's state.

    Attributes:
        name: unique, stays the same from run to run.
        group: of its parameters.
        stack: the parameters.
        rule: how they are updated.
        learning_rate: before any multiplier.
        weight_decay: before any multiplier.
        updates: how many there were.
        state: the rule's tensors.
    """

    name: str
    group: Group
    stack: Stack
    rule: UpdateRule
    learning_rate: float
    weight_decay: float
    updates: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = self.rule.new_state(self.stack.weight())

    def step(self, settings: StepSettings) -> None:
        """Update the stack's parameters in place."""
        self.updates += 1
        weight = self.stack.weight()
        scalars = StepScalars(
            update=self.updates,
            learning_rate=self.learning_rate * settings.learning_rate_multiplier,
            weight_decay=self.weight_decay,
            momentum=settings.momentum,
            lr_mul=self.stack.lr_mul,
            wd_mul=self.stack.wd_mul,
        )
        self.rule.step(weight, self.stack.gradient(), self.state, scalars)
        self.stack.write(weight)

    def inherit(self, other: "Unit") -> None:
        """Go on from another unit's state."""
        self.updates = other.updates
        for name, tensor in self.state.items():
            tensor.copy_(other.state[name])


@dataclass(frozen=True)
class EmbeddingPair:
    """The embedding and the head, which start as one matrix and may be split later."""

    embedding: LabelledParameter
    head: LabelledParameter
    embedding_unit: Unit
    head_unit: Unit

    def merge_gradients(self) -> None:
        """Move the embedding's gradient over to the head's; done twice it adds nothing."""
        gradient = gradient_of(self.embedding)
        gradient_of(self.head).add_(gradient)
        gradient.zero_()

    def copy_weight(self) -> None:
        """Make the embedding equal to the head, where it is."""
        self.embedding.parameter.detach().copy_(self.head.parameter.detach())


class OptimizerSet:
    """Updates every parameter of a model; made by `build_optimizers`.

    While the embedding is tied the head's optimizer updates both with the sum of their gradients.
    In the first step in which it is not, the embedding takes over the head's moments.
    """

    def __init__(
        self,
        parameters: Sequence[LabelledParameter],
        units: Sequence[Unit],
        pair: EmbeddingPair | None,
        largest_norms: dict[Group, float],
        *,
        embedding_tied: bool,
    ) -> None:
        assert pair or not embedding_tied
        self._parameters = {
            group: [entry for entry in parameters if entry.group == group] for group in GROUPS
        }
        self.units = tuple(units)
        self._pair = pair
        self._largest_norms = largest_norms
        self._embedding_tied = embedding_tied
        if pair and embedding_tied:
            pair.copy_weight()

    @torch.no_grad()
    def clip_gradients(self, settings: StepSettings) -> dict[str, Tensor]:
        """Scale down each group's gradient if its norm is above the group's limit.

        Call it between the last backward pass and `step`.

        Args:
            settings: of the coming step; a tied embedding's gradient counts as part of the head's.
        Returns:
            For each group that has parameters the norm before clipping, float32 on the device.
        """
        if settings.embedding_tied:
            self._tied_pair().merge_gradients()
        norms: dict[str, Tensor] = {}
        for group, entries in self._parameters.items():
            if not entries:
                continue
            gradients = [gradient_of(entry) for entry in entries]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            limit = self._largest_norms[group]
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
        tied_pair = self._tied_pair() if settings.embedding_tied else None
        if tied_pair:
            tied_pair.merge_gradients()
        for unit in self.units:
            frozen = settings.scalars_frozen and unit.group == "scalar"
            follows_head = tied_pair is not None and unit is tied_pair.embedding_unit
            if not frozen and not follows_head:
                unit.step(settings)
        if tied_pair:
            tied_pair.copy_weight()

    def _tied_pair(self) -> EmbeddingPair:
        """The pair that a plan says is tied."""
        if self._pair is None:
            raise ValueError("the plan ties embedding and head, but the model lacks one of them")
        return self._pair

    def _enter_phase(self, *, embedding_tied: bool) -> None:
        """Split the embedding from the head when the plan does so for the first time."""
        if embedding_tied and not self._embedding_tied:
            raise ValueError("embedding and head have been split and cannot be tied again")
        if self._embedding_tied and not embedding_tied:
            pair = self._tied_pair()
            pair.embedding_unit.inherit(pair.head_unit)
        self._embedding_tied = embedding_tied

    def zero_grad(self) -> None:
        """Set all gradients to zero where they are, for the next step to add to."""
        gradients = [
            entry.parameter.grad
            for entries in self._parameters.values()
            for entry in entries
            if entry.parameter.grad is not None
        ]
        if gradients:
            torch._foreach_zero_(gradients)

    def counters(self) -> dict[str, Tensor]:
        """Events that rules count, since the start of the run, still on the device."""
        return {
            f"{unit.name}/{name}": unit.state[name]
            for unit in self.units
            for name in unit.rule.counters
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on but parameters, gradients and plan.

        Holds the live tensors, not copies: save it before the next step.
        """
        return {
            "embedding_tied": self._embedding_tied,
            "units": {
                unit.name: {
                    "members": list(unit.stack.members),
                    "updates": unit.updates,
                    "state": dict(unit.state),
                }
                for unit in self.units
            },
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a saved state, copied into the tensors that are there.

        Args:
            saved: from `state_dict` of the same rules over the same parameters.
        Raises:
            ValueError: it belongs to other parameters or rules; nothing has been changed then.
        """
        units = saved["units"]
        for unit in self.units:
            self._check_saved(unit, units.get(unit.name))
        if unknown := sorted(units.keys() - {unit.name for unit in self.units}):
            raise ValueError(f"saved optimizer state has unknown parts: {', '.join(unknown)}")
        for unit in self.units:
            unit.updates = units[unit.name]["updates"]
            for name, tensor in unit.state.items():
                tensor.copy_(units[unit.name]["state"][name])
        self._embedding_tied = saved["embedding_tied"]

    @staticmethod
    def _check_saved(unit: Unit, saved: dict[str, Any] | None) -> None:
        """Refuse a saved state that does not fit a unit."""
        if saved is None:
            raise ValueError(f"saved optimizer state lacks {unit.name}: it is another model's")
        if saved["members"] != unit.stack.members:
            raise ValueError(f"saved optimizer state of {unit.name} holds other parameters")
        expected = {name: (tuple(t.shape), t.dtype) for name, t in unit.state.items()}
        found = {name: (tuple(t.shape), t.dtype) for name, t in saved["state"].items()}
        if expected != found:
            raise ValueError(
                f"saved optimizer state of {unit.name} does not fit: expected {expected}, "
                f"found {found}"
            )
