"""From labelled parameters and params.yaml to the optimizers of a run."""

from collections.abc import Iterable, Sequence

import torch

from ramengpt.config.hooks import HooksConfig
from ramengpt.config.optimizer import OptimizerConfig, PolarRuleConfig
from ramengpt.config.optimizer_blocks import AdamConfig, GradientClippingConfig
from ramengpt.optimizers.adam import Adam
from ramengpt.optimizers.groups import GROUPS, LabelledParameter, labelled_parameters
from ramengpt.optimizers.optimizer_set import OptimizerSet
from ramengpt.optimizers.param_group import EmbeddingPair, ParamGroup
from ramengpt.optimizers.rules import make_rule
from ramengpt.optimizers.stacks import FlatStack, SingleStack, block_stacks


def build_optimizers(
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
    *,
    optimizer: OptimizerConfig,
    embedding_adam: AdamConfig,
    scalar_adam: AdamConfig,
    gradient_clipping: GradientClippingConfig,
    hooks: HooksConfig,
    embedding_tied: bool,
    compile: bool,
) -> OptimizerSet:
    """Make the optimizers of all three groups.

    Args:
        named_parameters: all of a model's, on the device that they are trained on.
        optimizer: of the hidden matrices.
        embedding_adam: Adam of embeddings and head.
        scalar_adam: Adam of scalars and gates.
        gradient_clipping: the groups' largest gradient norms.
        hooks: what acts on all weights.
        embedding_tied: whether the first step's plan ties embedding and head; then the head's
            weight is copied into the embedding now.
        compile: whether updates go through torch.compile.
    Returns:
        The optimizers, at the state before the first step.
    Raises:
        ValueError: names parameters without a group or with several optimizers, or says that there
            are no embedding and head to tie.
    """
    parameters = labelled_parameters(named_parameters)
    of_group = {group: [e for e in parameters if e.group == group] for group in GROUPS}
    embeddings = of_group["embedding"]
    embedding_groups = [
        _embedding_group(entry, optimizer, embedding_adam, compile=compile) for entry in embeddings
    ]
    pair = _embedding_pair(embeddings, embedding_groups)
    if embedding_tied and pair is None:
        raise ValueError(
            "the schedule ties embedding and head, so the model needs exactly one parameter with "
            f"each label, found {[f'{entry.name}: {entry.label}' for entry in embeddings]}"
        )
    return OptimizerSet(
        parameters,
        [
            *embedding_groups,
            *_hidden_groups(of_group["hidden"], optimizer, compile=compile),
            *_scalar_groups(of_group["scalar"], scalar_adam, compile=compile),
        ],
        pair,
        {group: getattr(gradient_clipping, f"{group}_norm") for group in GROUPS},
        hooks,
        embedding_tied=embedding_tied,
    )


def _embedding_group(
    entry: LabelledParameter, optimizer: OptimizerConfig, adam: AdamConfig, *, compile: bool
) -> ParamGroup:
    """An embedding or the head, with its own numbers of Adam."""
    return ParamGroup(
        name=f"embedding/{entry.name}",
        group="embedding",
        stack=SingleStack(entry),
        rule=Adam(adam_of(entry, adam), compile=compile),
        learning_rate=_embedding_rate(entry, optimizer, adam),
        weight_decay=adam.weight_decay,
    )


def _hidden_groups(
    entries: Sequence[LabelledParameter], optimizer: OptimizerConfig, *, compile: bool
) -> list[ParamGroup]:
    """The blocks of hidden matrices, by shape."""
    rule = make_rule(optimizer, compile=compile)
    by_heads = isinstance(optimizer, PolarRuleConfig)
    stacks = block_stacks(entries, oriented=rule.oriented, by_heads=by_heads)
    return [
        ParamGroup(
            name=f"hidden/{'x'.join(str(size) for size in stack.weight().shape[1:])}",
            group="hidden",
            stack=stack,
            rule=rule,
            learning_rate=optimizer.learning_rate,
            weight_decay=optimizer.weight_decay,
        )
        for stack in stacks
    ]


def _scalar_groups(
    entries: Sequence[LabelledParameter], adam: AdamConfig, *, compile: bool
) -> list[ParamGroup]:
    """Scalars and gates, those with the same numbers of Adam together."""
    by_numbers: dict[AdamConfig, list[LabelledParameter]] = {}
    for entry in entries:
        by_numbers.setdefault(adam_of(entry, adam), []).append(entry)
    return [
        ParamGroup(
            name="scalar" if own == adam else f"scalar/{own.beta1},{own.beta2},{own.epsilon}",
            group="scalar",
            stack=FlatStack(members),
            rule=Adam(own, compile=compile),
            learning_rate=adam.learning_rate,
            weight_decay=adam.weight_decay,
        )
        for own, members in by_numbers.items()
    ]


def adam_of(entry: LabelledParameter, adam: AdamConfig) -> AdamConfig:
    """The group's Adam with the parameter's own numbers."""
    return adam.model_copy(update=dict(entry.own_adam))


def _embedding_rate(
    entry: LabelledParameter, optimizer: OptimizerConfig, embedding_adam: AdamConfig
) -> float:
    """The learning rate of embeddings, or the head's own if the optimizer has one."""
    if entry.label == "head" and optimizer.head_learning_rate is not None:
        return optimizer.head_learning_rate
    return embedding_adam.learning_rate


def _embedding_pair(
    embeddings: list[LabelledParameter], param_groups: list[ParamGroup]
) -> EmbeddingPair | None:
    """Embedding and head with their groups, if there is exactly one of each, of one shape."""
    labels = [entry.label for entry in embeddings]
    if labels.count("embedding") != 1 or labels.count("head") != 1:
        return None
    embedding, head = labels.index("embedding"), labels.index("head")
    if embeddings[embedding].parameter.shape != embeddings[head].parameter.shape:
        return None
    return EmbeddingPair(
        embeddings[embedding], embeddings[head], param_groups[embedding], param_groups[head]
    )
