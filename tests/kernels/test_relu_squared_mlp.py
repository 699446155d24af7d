"""The fused MLP against plain PyTorch in float64."""

import pytest
import torch

from ramengpt.kernels import relu_squared_mlp as module
from ramengpt.kernels.relu_squared_mlp import (
    linear_relu_squared_mlp,
    linear_relu_squared_mlp_reference,
)
from tests.kernels.numbers import relative_error


def inputs(tokens, width, units, dtype=torch.float32, device="cpu"):
    x = torch.randn(tokens, width, device=device).to(dtype)
    w_in, w_out = ((torch.randn(units, width, device=device) * width**-0.5) for _ in range(2))
    return x, w_in, w_out


def value_and_gradients(function, x, w_in, w_out, upstream):
    leaves = [t.detach().requires_grad_() for t in (x, w_in, w_out)]
    y = function(*leaves)
    return y.detach(), *torch.autograd.grad(y, leaves, upstream)


def test_gradcheck_and_registration():
    x, w_in, w_out = (t.double().requires_grad_() for t in inputs(13, 5, 7))
    assert torch.autograd.gradcheck(linear_relu_squared_mlp, (x, w_in, w_out))
    torch.library.opcheck(module._forward_operator, (x, w_in, w_out))


def test_equals_the_reference_with_float32_masters_beside_bfloat16():
    x, w_in, w_out = inputs(40, 16, 64, torch.bfloat16)
    upstream = torch.randn_like(x)
    found = value_and_gradients(linear_relu_squared_mlp, x, w_in, w_out, upstream)
    exact = value_and_gradients(
        linear_relu_squared_mlp_reference,
        *(t.bfloat16().double() for t in (x, w_in, w_out)),
        upstream.double(),
    )
    dtypes = [t.dtype for t in found]
    assert dtypes == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    assert max(relative_error(a, b) for a, b in zip(found, exact, strict=True)) < 1e-2


def test_compiles_into_one_graph():
    x, w_in, w_out = inputs(12, 8, 16)
    upstream = torch.randn_like(x)
    compiled = torch.compile(linear_relu_squared_mlp, fullgraph=True, backend="aot_eager")
    found = value_and_gradients(compiled, x, w_in, w_out, upstream)
    plain = value_and_gradients(linear_relu_squared_mlp, x, w_in, w_out, upstream)
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


def test_shapes_that_do_not_fit_are_refused():
    x, w_in, w_out = inputs(12, 8, 16)
    with pytest.raises(ValueError, match=r"must be \[T, D\], \[F, D\] and \[F, D\]"):
        linear_relu_squared_mlp(x, w_in, w_out.T)


@pytest.mark.gpu
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("tokens", "width", "units"), [(1000, 256, 1024), (333, 72, 200)])
def test_on_gpu(dtype, tolerance, tokens, width, units):
    x, w_in, w_out = inputs(tokens, width, units, dtype, "cuda")
    upstream = torch.randn_like(x)
    found = value_and_gradients(linear_relu_squared_mlp, x, w_in, w_out, upstream)
    exact = value_and_gradients(
        linear_relu_squared_mlp_reference,
        *(t.to(dtype).double() for t in (x, w_in, w_out)),
        upstream.double(),
    )
    errors = [relative_error(a, b) for a, b in zip(found, exact, strict=True)]
    assert max(errors) < tolerance, errors


@pytest.mark.gpu
def test_on_gpu_compiles_into_one_graph():
    x, w_in, w_out = inputs(256, 64, 256, torch.bfloat16, "cuda")
    upstream = torch.randn_like(x)
    compiled = torch.compile(lambda x, a, b: linear_relu_squared_mlp(x * 2, a, b), fullgraph=True)
    found = value_and_gradients(compiled, x, w_in, w_out, upstream)
    plain = value_and_gradients(
        lambda x, a, b: linear_relu_squared_mlp(x * 2, a, b), x, w_in, w_out, upstream
    )
    assert max(relative_error(a, b) for a, b in zip(found, plain, strict=True)) < 1e-2
