"""Queries, keys and values by the kernel against plain PyTorch in float64, on a GPU.

The kernel's equations are checked in the interpreter, its reference by the tests of the model.
"""

import pytest
import torch

from ramengpt.kernels import qkv_prologue as module
from ramengpt.kernels.qkv_prologue import (
    kernel_supports,
    qkv_prologue,
    qkv_prologue_reference,
)
from tests.kernels.numbers import EPSILON, attention_numbers, before_in, double, relative_error


def test_the_reference_is_for_what_the_kernel_does_not_take():
    assert not kernel_supports(torch.empty(4, 3, 2, 16))
    assert not kernel_supports(torch.empty(4, 3, 2, 24))


@pytest.mark.gpu
def test_a_head_of_any_size_and_float64_are_left_to_the_reference():
    assert kernel_supports(torch.empty(4, 3, 2, 16, device="cuda"))
    assert not kernel_supports(torch.empty(4, 3, 2, 24, device="cuda"))
    assert not kernel_supports(torch.empty(4, 3, 2, 16, device="cuda", dtype=torch.float64))


@pytest.mark.gpu
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 6e-3), (torch.float32, 2e-6)])
@pytest.mark.parametrize(("num_heads", "head_dim"), [(4, 64), (3, 128), (2, 16)])
@pytest.mark.parametrize("whole", [False, True])
def test_on_gpu(dtype, tolerance, num_heads, head_dim, whole):
    lengths = [300, 1, 2, 130]
    inputs, rotation = attention_numbers(lengths, num_heads, head_dim, dtype, "cuda")
    qkv, positions, value, gate = inputs
    leaves = [t.requires_grad_() for t in ((qkv, value, gate) if whole else (qkv,))]
    added = leaves[1:] if whole else (None, None)
    found = qkv_prologue(qkv, rotation, positions if whole else None, *added, EPSILON)
    upstream = [torch.randn_like(t) for t in found]
    found_gradients = torch.autograd.grad(found, leaves, upstream)

    exact = [t.detach().double().requires_grad_() for t in leaves]
    added = exact[1:] if whole else (None, None)
    before = before_in(positions) if whole else None
    expected = qkv_prologue_reference(exact[0], double(rotation), before, *added, EPSILON)
    gradients = torch.autograd.grad(expected, exact, [t.double() for t in upstream])
    pairs = zip((*found, *found_gradients), (*expected, *gradients), strict=True)
    errors = [relative_error(ours.detach(), theirs.detach()) for ours, theirs in pairs]
    assert max(errors) < tolerance, errors


@pytest.mark.gpu
@pytest.mark.parametrize("whole", [False, True])
def test_on_gpu_is_registered_and_compiles_into_one_graph(whole):
    (qkv, positions, value, gate), rotation = attention_numbers(
        [60, 4], 2, 16, torch.float32, "cuda"
    )
    added = (value.requires_grad_(), gate.requires_grad_()) if whole else (None, None)
    arguments = (qkv.requires_grad_(), rotation, positions if whole else None, *added, EPSILON)
    flat = (qkv, rotation.cos_TF, rotation.sin_TF, rotation.attention_scale, *arguments[2:])
    torch.library.opcheck(module._forward_operator, flat)

    def loss(qkv, *rest):
        return sum((x * (n + 1)).square().sum() for n, x in enumerate(qkv_prologue(qkv * 2, *rest)))

    leaves = [t for t in (qkv, *added) if t is not None]
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True)(*arguments), leaves)
    plain = torch.autograd.grad(loss(*arguments), leaves)
    assert max(relative_error(a, b) for a, b in zip(found, plain, strict=True)) < 1e-5
