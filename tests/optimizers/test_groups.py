"""Every parameter in exactly one group, or set-up fails with the names."""

import pytest
import torch

from ramengpt.optimizers.groups import labelled_parameters
from tests.optimizers.models import labelled, optimizers_of, small_model


def test_every_parameter_is_updated_exactly_once() -> None:
    parameters = small_model()
    members = [
        member
        for param_group in optimizers_of(parameters).param_groups
        for member in param_group.stack.members
    ]
    assert len(members) == len(set(members))
    assert {member.partition("[")[0] for member in members} == set(parameters)
    assert sum(member.startswith("0.qkvo[") for member in members) == 4


def test_parameters_without_a_group_are_named() -> None:
    """The original trained neither of these."""
    parameters = small_model()
    for name in ("smear_gate.weight", "skip_gate.weight"):
        parameters[name] = torch.nn.Parameter(torch.zeros(1, 12))
    with pytest.raises(ValueError, match=r"smear_gate\.weight, skip_gate\.weight: belongs to no"):
        optimizers_of(parameters)


def test_a_group_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="odd: belongs to no optimizer"):
        labelled_parameters([("odd", labelled(torch.zeros(3), "odd", "embeddings"))])


def test_a_gate_whose_name_contains_embed_is_what_its_group_says() -> None:
    gate = labelled(torch.zeros(2, 12), "value_gate", "scalar")
    (entry,) = labelled_parameters([("value_embed_gate", gate)])
    assert entry.group == "scalar"


def test_one_tensor_under_two_names_is_refused() -> None:
    shared = labelled(torch.zeros(3), "gate", "scalar")
    with pytest.raises(ValueError, match="a = b: would be updated more than once"):
        labelled_parameters(
            [("a", shared), ("c", labelled(torch.ones(2), "gate", "scalar")), ("b", shared)]
        )


@pytest.mark.parametrize(
    ("shape", "residual_dims"),
    [((8,), (1,)), ((8, 4), ()), ((9, 4), (1, 1)), ((8, 4), (2,)), ((2, 4, 4), (0,))],
)
def test_hidden_matrices_must_divide_into_blocks(shape, residual_dims) -> None:
    matrix = labelled(torch.zeros(shape), "mlp_in", "hidden", residual_dims=residual_dims)
    with pytest.raises(ValueError, match="matrix: is hidden, so it must be 2-D"):
        labelled_parameters([("matrix", matrix)])


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameters"):
        labelled_parameters([])
