"""Labels of the parameters: all that the optimizers know about the network.

Every parameter carries `.label`, `.group` ("embedding", "hidden" or "scalar"), `.lr_mul`,
`.wd_mul`, `.own_adam` and, in the group "hidden", `.residual_dims`. A hidden matrix is
`len(residual_dims)` equal blocks along dim 0; entry i is the dim (0 or 1) of block i that faces the
residual stream. One whose first two blocks are q and k also carries `.head_dim`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ramengpt.config.parameters import Group, ParametersConfig


@dataclass(frozen=True)
class Label:
    """What all parameters of one label share."""

    group: Group
    residual_dims: tuple[int, ...] = ()


LABELS = {
    "embedding": Label("embedding"),
    "head": Label("embedding"),
    "value_embedding": Label("embedding"),
    "attention": Label("hidden", (1, 1, 1, 0)),  # q, k, v read the residual stream, o writes it
    "mlp_in": Label("hidden", (1,)),
    "mlp_out": Label("hidden", (1,)),
    "attention_gate": Label("scalar"),
    "value_gate": Label("scalar"),
    "smear_gate": Label("scalar"),
    "skip_gate": Label("scalar"),
    "residual_lambda": Label("scalar"),
    "embedding_lambda": Label("scalar"),
    "attention_lambda": Label("scalar"),
    "smear_lambda": Label("scalar"),
    "skip_lambda": Label("scalar"),
    "backout_lambda": Label("scalar"),
    "bigram_embedding": Label("embedding"),
    "bigram_lambda": Label("scalar"),
    "exclusive_attention": Label("scalar"),
    "dense_connection_in": Label("scalar"),
    "dense_connection_out": Label("scalar"),
    "dense_connection_bias": Label("scalar"),
    "residual_gain": Label("scalar"),
    "output_gain": Label("scalar"),
    "value_residual": Label("scalar"),
    "hyper_connection_weight": Label("scalar"),
    "hyper_connection_bias": Label("scalar"),
    "token_gain_in": Label("scalar"),
    "token_gain_out": Label("scalar"),
    "token_gain_scale": Label("scalar"),
}


def make_parameter(
    label: str, *shape: int, residual_dims: tuple[int, ...] | None = None
) -> torch.nn.Parameter:
    """Create an uninitialised float32 parameter with its label and group.

    Args:
        label: a key of `LABELS`.
        shape: sizes.
        residual_dims: in place of the label's own, for matrices with another layout.

    Returns:
        The parameter, filled with NaN, so that a forgotten initialisation cannot go unnoticed.
    """
    kind = LABELS[label]
    parameter = torch.nn.Parameter(torch.full(shape, torch.nan))
    parameter.label = label  # type: ignore[attr-defined]
    parameter.group = kind.group  # type: ignore[attr-defined]
    if kind.group == "hidden":
        parameter.residual_dims = residual_dims or kind.residual_dims  # type: ignore[attr-defined]
    return parameter


def optional_parameter(exists: bool, label: str, *shape: int) -> torch.nn.Parameter | None:
    """The same, or None for a part that is off."""
    return make_parameter(label, *shape) if exists else None


def set_multipliers(parameters: Iterable[torch.nn.Parameter], config: ParametersConfig) -> None:
    """Give every parameter the `.lr_mul`, `.wd_mul` and `.own_adam` of its label.

    `own_adam` has the numbers of Adam that stand in place of those of the parameter's group.

    Args:
        parameters: made by `make_parameter`.
        config: the section `parameters` of params.yaml.
    """
    for parameter in parameters:
        numbers = getattr(config, parameter.label).model_dump(exclude_none=True)  # type: ignore[attr-defined]
        parameter.lr_mul = numbers.pop("lr_mul")  # type: ignore[attr-defined]
        parameter.wd_mul = numbers.pop("wd_mul")  # type: ignore[attr-defined]
        parameter.own_adam = numbers  # type: ignore[attr-defined]
