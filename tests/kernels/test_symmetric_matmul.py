"""Symmetric products against plain ones in float64."""

import pytest
import torch

from ramengpt.kernels import symmetric_matmul as module
from ramengpt.kernels.symmetric_matmul import (
    symmetric_product,
    symmetric_product_reference,
    symmetric_quadratic,
    symmetric_quadratic_reference,
)
from tests.kernels.numbers import relative_error


def symmetric(batch: int, rows: int, device: str = "cpu") -> torch.Tensor:
    square = torch.randn(batch, rows, rows, device=device) * rows**-0.5
    return (square + square.mT) / 2


def test_on_cpu_they_are_the_reference():
    x = torch.randn(2, 3, 5, 7)
    assert torch.equal(symmetric_product(x), symmetric_product_reference(x))
    a = symmetric(2, 5)
    expected = symmetric_quadratic_reference(a, -2.0, 0.5)
    assert torch.equal(symmetric_quadratic(a, -2.0, 0.5), expected)
    with pytest.raises(ValueError, match="square"):
        symmetric_quadratic(x, 1.0, 1.0)


def test_gradients():
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(symmetric_product, (x,))
    a = symmetric(2, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: symmetric_quadratic((a + a.mT) / 2, -2.0, 0.5), (a,))


def test_registered_and_compiled_into_one_graph():
    a = symmetric(2, 4)
    torch.library.opcheck(module._product_operator, (a,))
    torch.library.opcheck(module._quadratic_operator, (a, -2.0, 0.5))
    compiled = torch.compile(
        lambda x: symmetric_quadratic(symmetric_product(x), -2.0, 0.5),
        fullgraph=True,
        backend="aot_eager",
    )
    expected = symmetric_quadratic_reference(symmetric_product_reference(a), -2.0, 0.5)
    assert torch.equal(compiled(a), expected)


@pytest.mark.gpu
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 5e-3), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("rows", "columns"), [(256, 1024), (200, 72), (768, 130)])
def test_on_gpu(dtype, tolerance, rows, columns):
    x = torch.randn(3, rows, columns, device="cuda").to(dtype)
    for matrix in (x, torch.randn(3, columns, rows, device="cuda").to(dtype).mT):
        found = symmetric_product(matrix)
        assert relative_error(found, symmetric_product_reference(matrix.double())) < tolerance
    a = symmetric(3, rows, "cuda").to(dtype)
    expected = symmetric_quadratic_reference(a.double(), -2.0, 0.5)
    assert relative_error(symmetric_quadratic(a, -2.0, 0.5), expected) < tolerance
