"""The MLP with float8 products against plain PyTorch in float64."""

import pytest
import torch

from ramengpt.kernels import relu_squared_mlp_float8 as module
from ramengpt.kernels.relu_squared_mlp import linear_relu_squared_mlp_reference
from ramengpt.kernels.relu_squared_mlp_float8 import float8_relu_squared_mlp
from tests.kernels.numbers import relative_error
from tests.kernels.test_relu_squared_mlp import inputs, value_and_gradients

E4M3 = torch.float8_e4m3fn
OF_A_FEW_TIES = 5e-3  # relative error where float32 rounds a few elements to the other neighbour


def rounded(x, largest=None):
    """x in float64 as e4m3 holds it whose range ends at `largest`, by default x's own."""
    scale = (x.abs().max() if largest is None else largest).double() / 448
    return (x.double() / scale).clamp(-448, 448).to(E4M3).double() * scale


def largest_h(x, w_in):
    return (x.double() @ w_in.double().T).relu().square().max().float()


def test_forward_is_that_of_rounded_operands():
    x, w_in, w_out = inputs(40, 16, 64)
    before = largest_h(x, w_in)
    y, largest = float8_relu_squared_mlp(x, w_in, w_out, before)
    h = (rounded(x) @ rounded(w_in).T).relu().square()
    assert relative_error(largest, h.max()) < 1e-5
    exact = rounded(h, before * module.HEADROOM) @ rounded(w_out)
    assert relative_error(y, exact) < OF_A_FEW_TIES
    assert relative_error(y, linear_relu_squared_mlp_reference(x, w_in, w_out)) < 0.1


def test_backward_is_that_of_the_kept_activation():
    x, w_in, w_out = inputs(40, 16, 64)
    upstream = torch.randn_like(x)

    def in_float8(*leaves):
        return float8_relu_squared_mlp(*leaves, torch.ones(()))[0]

    found = value_and_gradients(in_float8, x, w_in, w_out, upstream)[1:]
    h = (rounded(x) @ rounded(w_in).T).relu().square()
    x, w_in, w_out, upstream = (t.double() for t in (x, w_in, w_out, upstream))
    dz = 2 * h.sqrt() * (upstream @ w_out.T)
    for ours, exact in zip(found, (dz @ w_in, dz.T @ x, h.T @ upstream), strict=True):
        assert relative_error(ours, exact) < 1e-4


def test_what_outgrows_the_last_pass_is_clamped():
    x, w_in, w_out = inputs(40, 16, 64)
    before = largest_h(x, w_in) / 100
    y, largest = float8_relu_squared_mlp(x, w_in, w_out, before)
    assert y.isfinite().all()
    h = (rounded(x) @ rounded(w_in).T).relu().square()
    clamped = rounded(h, before * module.HEADROOM)
    assert clamped.max() < h.max() / 50
    assert relative_error(y, clamped @ rounded(w_out)) < OF_A_FEW_TIES
    again, _ = float8_relu_squared_mlp(x, w_in, w_out, largest)
    assert relative_error(again, linear_relu_squared_mlp_reference(x, w_in, w_out)) < 0.1


def test_the_first_pass_has_scale_one():
    assert module.scale_of_h(torch.zeros(())) == 1
    assert module.scale_of_h(torch.tensor(448.0)) == pytest.approx(module.HEADROOM)


def test_registration():
    x, w_in, w_out = inputs(12, 8, 16)
    leaves = [t.requires_grad_() for t in (x, w_in, w_out)]
    torch.library.opcheck(module._forward_operator, (*leaves, torch.ones(())))


@pytest.mark.gpu
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("tokens", "width", "units"), [(1000, 256, 1024), (336, 80, 208)])
def test_on_gpu(tokens, width, units):
    x, w_in, w_out = inputs(tokens, width, units, torch.bfloat16, "cuda")
    before, upstream = largest_h(x, w_in), torch.randn_like(x)
    found = value_and_gradients(
        lambda *leaves: float8_relu_squared_mlp(*leaves, before)[0], x, w_in, w_out, upstream
    )
    exact = value_and_gradients(
        linear_relu_squared_mlp_reference,
        *(t.bfloat16().double() for t in (x, w_in, w_out)),
        upstream.double(),
    )
    errors = [relative_error(a, b) for a, b in zip(found, exact, strict=True)]
    assert max(errors) < 0.1, errors
