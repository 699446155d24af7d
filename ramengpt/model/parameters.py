"""Labels of the parameters: all that the optimizers know about the network.

Every parameter carries `.label`, `.group` ("embedding", "hidden" or "scalar"), `.lr_mul`,
`.wd_mul`, `.own_adam` and, in the group "hidden", `.residual_dims`. A hidden matrix is
`len(residual_dims)` equal blocks along dim 0; entry i is the dim (0 or 1) of block i that faces the
residual stream. One whose first two blocks are q and k also carries `.head_dim`.
"""

from collections.abc import Iterable

import torch

from ramengpt.config.parameters import Group, ParametersConfig

EMBEDDINGS = ("embedding", "head", "value_embedding", "bigram_embedding")
"""Labels of the group "embedding": tables with a row for each token or bigram."""
RESIDUAL_DIMS = {
    "attention": (1, 1, 1, 0),  # q, k, v read the residual stream, o writes it
    "mlp_in": (1,),
    "mlp_out": (1,),
}
"""By label of the group "hidden"; all other labels are of the group "scalar"."""


def group_of(label: str) -> Group:
    """The group of a label.

    Raises:
        KeyError: the section `parameters` of params.yaml has no such label.
    """
    if label not in ParametersConfig.model_fields:
        raise KeyError(label)
    if label in RESIDUAL_DIMS:
        return "hidden"
    return "embedding" if label in EMBEDDINGS else "scalar"


def make_parameter(
    label: str, *shape: int, residual_dims: tuple[int, ...] | None = None
) -> torch.nn.Parameter:
    """Create an uninitialised float32 parameter with its label and group.

    Args:
        label: one of the section `parameters` of params.yaml.
        shape: sizes.
        residual_dims: in place of the label's own, for matrices with another layout.

    Returns:
        The parameter, filled with NaN, so that a forgotten initialisation cannot go unnoticed.
    """
    parameter = torch.nn.Parameter(torch.full(shape, torch.nan))
    parameter.label = label  # type: ignore[attr-defined]
    parameter.group = group_of(label)  # type: ignore[attr-defined]
    if label in RESIDUAL_DIMS:
        parameter.residual_dims = residual_dims or RESIDUAL_DIMS[label]  # type: ignore[attr-defined]
    return parameter


def optional_parameter(exists: bool, label: str, *shape: int) -> torch.nn.Parameter | None:
    """The same, or None for a part that is off."""
    return make_parameter(label, *shape) if exists else None


def set_multipliers(parameters: Iterable[torch.nn.Parameter], config: ParametersConfig) -> None:
    """Give every parameter the `.lr_mul`, `.wd_mul` and the other numbers of its label.

    `query_key_block_heads` is 0 for all but attention's; `own_adam` has the numbers of Adam that
    stand in place of those of the parameter's group.

    Args:
        parameters: made by `make_parameter`.
        config: the section `parameters` of params.yaml.
    """
    for parameter in parameters:
        numbers = getattr(config, parameter.label).model_dump(exclude_none=True)  # type: ignore[attr-defined]
        parameter.lr_mul = numbers.pop("lr_mul")  # type: ignore[attr-defined]
        parameter.wd_mul = numbers.pop("wd_mul")  # type: ignore[attr-defined]
        heads = numbers.pop("query_key_block_heads", 0)
        parameter.query_key_block_heads = heads  # type: ignore[attr-defined]
        parameter.own_adam = numbers  # type: ignore[attr-defined]
