"""Put every parameter into exactly one group, by the labels it carries."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

import torch

from ramengpt.config.parameters import Group

GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True)
class LabelledParameter:
    """A parameter and what the model says about it.

    Attributes:
        name: in the model.
        parameter: the tensor itself.
        label: its kind, such as "attention".
        group: which optimizer updates it.
        lr_mul: multiplies its learning rate.
        wd_mul: multiplies its weight decay.
        residual_dims: of a hidden matrix: one entry for each of its equal blocks along dim 0,
            the dim of that block (0 or 1) which is the residual stream; empty otherwise.
        head_dim: of a matrix whose first two blocks are q and k: rows of each of their heads;
            None otherwise.
        query_key_block_heads: rules that orthogonalise by polynomials do so with q and k in blocks
            of this many heads; 0: as a whole.
        own_adam: numbers of Adam in place of those of the group, by name.
    """

    name: str
    parameter: torch.nn.Parameter
    label: str
    group: Group
    lr_mul: float
    wd_mul: float
    residual_dims: tuple[int, ...]
    head_dim: int | None
    query_key_block_heads: int
    own_adam: Mapping[str, float]


def labelled_parameters(
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
) -> list[LabelledParameter]:
    """Read the labels of all parameters.

    Args:
        named_parameters: all of a model's; each must carry `label`, `group`, `lr_mul`, `wd_mul`
            and, in the hidden group, `residual_dims`.
    Returns:
        One entry for each, in order.
    Raises:
        ValueError: some lack a group, or have one that does not exist, or their blocks do not fit
            their shape, or a tensor comes twice; the message lists their names.
    """
    parameters = [_labelled(name, parameter) for name, parameter in named_parameters]
    if not parameters:
        raise ValueError("no parameters to optimize: the model has none")
    names_of: dict[int, list[str]] = {}
    for entry in parameters:
        names_of.setdefault(id(entry.parameter), []).append(entry.name)
    _refuse(
        "would be updated more than once: share it in the model under one name",
        [" = ".join(names) for names in names_of.values() if len(names) > 1],
    )
    _refuse(
        f"belongs to no optimizer: its group must be one of {', '.join(GROUPS)}",
        [entry.name for entry in parameters if entry.group not in GROUPS],
    )
    _refuse(
        "is hidden, so it must be 2-D and its residual_dims must name 0 or 1 for each of the "
        "equal blocks that its rows divide into",
        [entry.name for entry in parameters if entry.group == "hidden" and not _has_blocks(entry)],
    )
    return parameters


def _labelled(name: str, parameter: torch.nn.Parameter) -> LabelledParameter:
    """Collect a parameter's attributes; one without a group gets an impossible one."""
    return LabelledParameter(
        name=name,
        parameter=parameter,
        label=getattr(parameter, "label", ""),
        group=getattr(parameter, "group", ""),  # type: ignore[arg-type]
        lr_mul=getattr(parameter, "lr_mul", 1.0),
        wd_mul=getattr(parameter, "wd_mul", 1.0),
        residual_dims=getattr(parameter, "residual_dims", ()),
        head_dim=getattr(parameter, "head_dim", None),
        query_key_block_heads=getattr(parameter, "query_key_block_heads", 0),
        own_adam=getattr(parameter, "own_adam", {}),
    )


def _has_blocks(entry: LabelledParameter) -> bool:
    """Whether the residual_dims of a hidden matrix fit its shape."""
    blocks = len(entry.residual_dims)
    return (
        entry.parameter.dim() == 2
        and blocks > 0
        and entry.parameter.size(0) % blocks == 0
        and set(entry.residual_dims) <= {0, 1}
    )


def _refuse(problem: str, names: list[str]) -> None:
    """Fail if any parameter has the problem."""
    if names:
        raise ValueError(f"parameter {', '.join(names)}: {problem}")
