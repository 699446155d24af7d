"""A stack shows its parameters as one tensor and loses nothing on the way back."""

import pytest
import torch

from ramengpt.optimizers.groups import labelled_parameters
from ramengpt.optimizers.stacks import FlatStack, SingleStack, block_stacks
from tests.optimizers.models import labelled, small_model


def entries(
    group: str, query_key_block_heads: int = 0
) -> tuple[dict[str, torch.nn.Parameter], list]:
    parameters = small_model()
    for parameter in parameters.values():
        parameter.query_key_block_heads = query_key_block_heads
    return parameters, [e for e in labelled_parameters(parameters.items()) if e.group == group]


@pytest.mark.parametrize("heads", [0, 1, 2, 4])
@pytest.mark.parametrize("oriented", [False, True])
def test_writing_what_was_read_changes_nothing_and_adding_adds_everywhere(oriented, heads) -> None:
    parameters, hidden = entries("hidden", heads)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for stack in block_stacks(hidden, oriented=oriented, by_heads=True):
        stack.write(stack.weight())
    assert all(torch.equal(parameters[name], before[name]) for name in before)
    for stack in block_stacks(hidden, oriented=oriented, by_heads=True):
        stack.write(stack.weight() + 1)
    for entry in hidden:
        assert torch.equal(entry.parameter.detach(), before[entry.name] + 1)


@pytest.mark.parametrize("oriented", [False, True])
def test_gradients_line_up_with_weights(oriented: bool) -> None:
    _, hidden = entries("hidden")
    for entry in hidden:
        entry.parameter.grad = 2 * entry.parameter.detach()
    for stack in block_stacks(hidden, oriented=oriented, by_heads=False):
        assert torch.equal(stack.gradient(), 2 * stack.weight())


def test_equal_shapes_of_all_layers_share_one_stack() -> None:
    stacks = block_stacks(entries("hidden")[1], oriented=False, by_heads=False)
    assert [tuple(stack.weight().shape) for stack in stacks] == [(8, 16, 16), (4, 48, 16)]


def test_by_pairs_of_heads_only_q_and_k_are_cut() -> None:
    stacks = block_stacks(entries("hidden", 2)[1], oriented=False, by_heads=True)
    assert [tuple(stack.weight().shape) for stack in stacks] == [
        (8, 8, 16), (4, 16, 16), (4, 48, 16),
    ]  # fmt: skip
    assert stacks[0].members[:4] == ["0.qkvo[0.0]", "0.qkvo[0.1]", "0.qkvo[1.0]", "0.qkvo[1.1]"]
    assert stacks[1].members[:2] == ["0.qkvo[2]", "0.qkvo[3]"]
    qkvo = entries("hidden")[0]["0.qkvo"].detach()
    assert torch.equal(stacks[0].weight()[3], qkvo[24:32])


def test_multipliers_line_up_with_blocks() -> None:
    mlp = block_stacks(entries("hidden")[1], oriented=False, by_heads=False)[1]
    assert mlp.members == ["0.mlp_in[0]", "0.mlp_out[0]", "1.mlp_in[0]", "1.mlp_out[0]"]
    assert mlp.lr_mul.flatten().tolist() == [1.0, 2.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("shape", "residual_dims", "expected"),
    [
        ((8, 4), (1,), (1, 4, 8)),
        ((4, 8), (0,), (1, 4, 8)),
        ((8, 4), (0,), (1, 4, 8)),  # the residual stream is the longer side: turn the other
        ((4, 8), (1,), (1, 4, 8)),
        ((8, 4), (0, 1), (2, 4, 4)),
    ],
)
def test_oriented_blocks_are_never_tall(shape, residual_dims, expected) -> None:
    matrix = labelled(torch.zeros(shape), "mlp_in", "hidden", residual_dims=residual_dims)
    (stack,) = block_stacks(
        labelled_parameters([("matrix", matrix)]), oriented=True, by_heads=False
    )
    assert stack.weight().shape == expected


def test_flat_stack_holds_scalars_of_any_shape_with_their_own_multipliers() -> None:
    _, scalars = entries("scalar")
    stack = FlatStack(scalars)
    assert stack.weight().shape == stack.lr_mul.shape == (2 * (24 + 1),)
    assert stack.lr_mul[24] == 5.0
    assert stack.lr_mul[:24].unique().tolist() == [1.0]
    before = [entry.parameter.detach().clone() for entry in scalars]
    stack.write(2 * stack.weight())
    for entry, old in zip(scalars, before, strict=True):
        assert torch.equal(entry.parameter.detach(), 2 * old)


def test_single_stack_is_the_parameter_itself() -> None:
    _, (embedding, _) = entries("embedding")
    stack = SingleStack(embedding)
    assert stack.weight().data_ptr() == embedding.parameter.data_ptr()


def test_a_parameter_without_a_gradient_is_named() -> None:
    _, hidden = entries("hidden")
    with pytest.raises(ValueError, match=r"0\.qkvo has no gradient"):
        block_stacks(hidden, oriented=False, by_heads=False)[0].gradient()
