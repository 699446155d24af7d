# ruff: noqa: PLR0917
"""The Triton kernels in Triton's interpreter; test_interpreter.py runs this in its own process.

The interpreter's products are numpy's, which has no bfloat16: float32 and float16 stand in
(float32 alone for the head, whose unnormalised gradients outgrow float16).
"""

import pytest
import torch

from ramengpt.kernels import (
    qkv_prologue_triton,
    relu_squared_mlp,
    relu_squared_mlp_float8,
    symmetric_matmul,
)
from ramengpt.kernels.head import cuda, float8, persistent
from ramengpt.kernels.head.softcapped_cross_entropy import softcapped_cross_entropy_reference
from ramengpt.kernels.qkv_prologue import qkv_prologue_reference
from ramengpt.kernels.relu_squared_mlp_persistent import launch_persistent_product
from tests.kernels.numbers import (
    EPSILON,
    SOFTCAP,
    attention_numbers,
    before_in,
    double,
    head_inputs,
    relative_error,
    several_targets,
)

TOLERANCES = {torch.float32: 1e-6, torch.float16: 2e-3}
pytestmark = pytest.mark.usefixtures("poisoned")
in_both_dtypes = pytest.mark.parametrize("dtype", TOLERANCES)


def weighted(targets, weights, vocabulary, num_targets):
    """Targets and weights [T, K], and the latter as totals [T] and shares [T, K]."""
    targets, weights = targets[:, None], weights[:, None]
    if num_targets > 1:
        targets, weights = several_targets(targets[:, 0], vocabulary, num_targets)
    totals = weights.sum(1)
    return targets, weights, totals, (weights / totals[:, None]).nan_to_num()


@pytest.mark.parametrize("num_targets", [1, 3])
@pytest.mark.parametrize(
    ("tokens", "width", "rows", "vocabulary"), [(200, 72, 200, 190), (64, 32, 128, 128)]
)
def test_head(tokens, width, rows, vocabulary, num_targets, monkeypatch):
    monkeypatch.setattr(cuda, "GPU_CHUNK_TOKENS", 96)
    x, weight, targets, weights = head_inputs(tokens, width, rows, vocabulary, torch.float32)
    targets, weights, totals, shares = weighted(targets, weights, vocabulary, num_targets)
    arguments = (x, weight, targets, totals, shares, vocabulary, *SOFTCAP)
    losses, grad_x, grad_weight = cuda.chunked_on_cuda(*arguments, True)
    only_losses, *empty = cuda.chunked_on_cuda(*arguments, False)
    assert torch.equal(losses, only_losses)
    assert [t.numel() for t in empty] == [0, 0]

    x, weight = (t.double().requires_grad_() for t in (x, weight))
    loss, expected = softcapped_cross_entropy_reference(
        x, weight, targets, weights.double(), vocabulary, *SOFTCAP
    )
    expected_x, expected_weight = torch.autograd.grad(loss, (x, weight))
    assert relative_error(losses[:, 0], expected) < 1e-6
    assert relative_error((losses * weights).sum(), loss.detach()) < 1e-6
    assert relative_error(grad_x, expected_x) < 1e-6
    assert relative_error(grad_weight, expected_weight) < 1e-6
    assert not grad_weight[vocabulary:].any()


def test_persistent_head_product():
    x, weight, _, _ = head_inputs(200, 72, 200, 190, torch.float32)
    softcap = (11.5, 0.5 / 7.5, 0.5 * 5 / 7.5)
    expected_u, u = torch.empty(200, 200), torch.empty(200, 200)
    expected = cuda.exponentials(x, weight, expected_u, 190, softcap, False)
    tile = {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 4, "num_stages": 2}
    found = persistent.persistent_exponentials(x, weight, u, 190, softcap, False, tile)
    assert relative_error(found.sum(0), expected.sum(0)) < 1e-6
    assert relative_error(u, expected_u) < 1e-6


@pytest.mark.parametrize("num_targets", [1, 3])
def test_float8_head(num_targets, monkeypatch):
    monkeypatch.setattr(float8, "GPU_CHUNK_TOKENS", 96)
    x, weight, targets, weights = head_inputs(208, 64, 208, 190, torch.float32)
    targets, weights, totals, shares = weighted(targets, weights, 190, num_targets)
    found = float8.chunked_in_float8(x, weight, targets, totals, shares, 190, *SOFTCAP)
    x, weight = (t.double().requires_grad_() for t in (x, weight))
    loss, losses = softcapped_cross_entropy_reference(
        x, weight, targets, weights.double(), 190, *SOFTCAP
    )
    gradients = torch.autograd.grad(loss, (x, weight))
    assert not found[2][190:].any()
    found = (found[0][:, 0], *found[1:])
    errors = [relative_error(a, b) for a, b in zip(found, (losses, *gradients), strict=True)]
    assert errors[0] < 5e-3
    assert max(errors[1:]) < 4e-2


def test_float8_rounds_to_the_ends_of_its_range():
    x = torch.tensor([[0.0, -3.5, 1.0], [0.001, 7.0, 0.5]])
    rounded, unit = float8.to_float8(x)
    assert rounded.float().abs().max() == 448
    assert (rounded.float() * unit - x).abs().max() <= 0.07 * x.abs().max()
    zeros, _ = float8.to_float8(torch.zeros(2, 3))
    assert not zeros.float().any()


@pytest.mark.parametrize("half_scale", [1.0, 11.5, 40.0])
def test_u_fits_its_range_but_for_a_bit(half_scale):
    tanh = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    u = torch.exp(half_scale * tanh) * (1 - tanh**2)
    largest = float(u.max()) * float8.largest_power_for_u(half_scale)
    assert 57_344 / 2 < largest <= 57_344


@in_both_dtypes
@pytest.mark.parametrize("transposed", [False, True])
def test_symmetric(dtype, transposed):
    x = torch.randn(2, 100, 70).to(dtype)
    x = x.mT if transposed else x
    found = symmetric_matmul.launch_symmetric(x, 1.0, None, 0.0)
    expected = symmetric_matmul.symmetric_product_reference(x.double())
    assert relative_error(found, expected) < TOLERANCES[dtype]

    a = (expected / 100).to(dtype)
    found = symmetric_matmul.launch_symmetric(a, 0.5, a, -2.0)
    expected = symmetric_matmul.symmetric_quadratic_reference(a.double(), -2.0, 0.5)
    assert relative_error(found, expected) < TOLERANCES[dtype]


@in_both_dtypes
def test_mlp_products(dtype):
    x, weight = torch.randn(130, 70).to(dtype), (torch.randn(150, 70) * 0.1).to(dtype)
    z = x.double() @ weight.double().T
    h = relu_squared_mlp.launch_product(x, weight, None)
    assert relative_error(h, z.relu().square()) < TOLERANCES[dtype]
    dz = relu_squared_mlp.launch_product(x, weight, h)
    assert relative_error(dz, 2 * z.relu() * z) < TOLERANCES[dtype]


@in_both_dtypes
def test_persistent_mlp_products(dtype):
    x, weight = torch.randn(130, 72).to(dtype), (torch.randn(152, 72) * 0.1).to(dtype)
    z = x.double() @ weight.double().T
    tile = {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 4, "num_stages": 2}
    h = launch_persistent_product(x, weight, None, tile)
    assert relative_error(h, z.relu().square()) < TOLERANCES[dtype]
    dz = launch_persistent_product(x, weight, h, tile)
    assert relative_error(dz, 2 * z.relu() * z) < TOLERANCES[dtype]


@pytest.mark.parametrize("headroom", [2.0, 0.25])
def test_float8_mlp_product(headroom):
    x, x_scale = float8.to_float8(torch.randn(130, 64))
    weight, weight_scale = float8.to_float8(torch.randn(144, 64) * 0.1)
    scale = x_scale * weight_scale
    largest = (x.double() @ weight.double().T * scale).relu().square().max()
    operands = (x, weight, scale, (largest * headroom / 448).float(), torch.float32)
    tile = {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2}
    h, h8, found = relu_squared_mlp_float8.launch_float8_product(*operands, tile)
    expected_h, expected_h8, _ = relu_squared_mlp_float8.float8_product_reference(*operands)
    assert relative_error(h, expected_h) < 1e-6
    # Where a GPU rounds to float8, the interpreter truncates, and may lose the carry into the
    # exponent (4 for 8): 0.05 to 0.08 by the draw. A GPU's own rounding is tested on a GPU.
    assert relative_error(h8.float(), expected_h8.float()) < 0.125
    assert relative_error(found, largest) < 1e-6
    assert (h8.float().max() == 448) == (headroom < 1)


@pytest.mark.parametrize("offsets_keys", [False, True])
@pytest.mark.parametrize("with_values", [False, True])
def test_qkv_prologue(offsets_keys, with_values):
    inputs, rotation = attention_numbers([9, 1, 20, 7], 3, 16, torch.float32)
    qkv, positions, value, gate = inputs
    value, gate = (value, gate) if with_values else (None, None)
    tables = (rotation.cos_TF, rotation.sin_TF, rotation.attention_scale)
    rest = (positions if offsets_keys else None, value, gate, EPSILON)
    operands = qkv_prologue_triton.Operands(qkv, *tables, *rest)
    found = qkv_prologue_triton.launch_inputs(operands)

    leaves = [t.double().requires_grad_() for t in (qkv, value, gate) if t is not None]
    added = leaves[1:] if with_values else (None, None)
    before = before_in(positions) if offsets_keys else None
    expected = qkv_prologue_reference(leaves[0], double(rotation), before, *added, EPSILON)
    for ours, exact in zip(found, expected, strict=True):
        assert relative_error(ours, exact.detach()) < 1e-6

    upstream = torch.randn(3, 3, 37, 16).transpose(1, 2).unbind()  # laid out as FlexAttention does
    found = qkv_prologue_triton.launch_gradients(upstream, operands)
    gradients = torch.autograd.grad(expected, leaves, [t.double() for t in upstream])
    for ours, exact in zip(found, gradients, strict=False):
        assert relative_error(ours, exact) < 2e-6
    assert with_values or found[1].numel() == found[2].numel() == 0
