"""A group of parameters that one rule updates together, and the pair that may be tied."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from ramengpt.optimizers.groups import Group, LabelledParameter
from ramengpt.optimizers.hooks import HookSettings
from ramengpt.optimizers.rule import State, StepScalars, UpdateRule
from ramengpt.optimizers.stacks import Stack, gradient_of


class StepSettings(HookSettings, Protocol):
    """What a step's plan says to the optimizers."""

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
class ParamGroup:
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
    rule: UpdateRule[Any]
    learning_rate: float
    weight_decay: float
    updates: int = 0
    state: State = field(init=False)

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
            progress=settings.step / settings.run_steps,
            lr_mul=self.stack.lr_mul,
            wd_mul=self.stack.wd_mul,
        )
        self.rule.step(weight, self.stack.gradient(), self.state, scalars)
        self.stack.write(weight)

    def inherit(self, other: "ParamGroup") -> None:
        """Copy another group's state."""
        self.updates = other.updates
        for name, tensor in self.state.items():
            tensor.copy_(other.state[name])


@dataclass(frozen=True)
class EmbeddingPair:
    """The embedding and the head, which start as one matrix and may be split later."""

    embedding: LabelledParameter
    head: LabelledParameter
    embedding_group: ParamGroup
    head_group: ParamGroup

    def merge_gradients(self) -> None:
        """Move the embedding's gradient to the head's; a second call adds nothing."""
        gradient = gradient_of(self.embedding)
        gradient_of(self.head).add_(gradient)
        gradient.zero_()

    def copy_weight(self) -> None:
        """Make the embedding equal to the head, in place."""
        self.embedding.parameter.detach().copy_(self.head.parameter.detach())
