"""The norm against float64, and recomputed in a compiled backward pass."""

import pytest
import torch

from ramengpt.model.norm import EPSILON, rms_norm, rms_norm_recomputed


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 5e-3)]
)
def test_divides_by_the_root_mean_square(dtype: torch.dtype, tolerance: float) -> None:
    x = (torch.randn(3, 5, 16) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]).to(dtype)
    wide = x.double()
    expected = wide / (wide.square().mean(dim=-1, keepdim=True) + EPSILON).sqrt()
    torch.testing.assert_close(rms_norm(x).double(), expected, rtol=tolerance, atol=tolerance)
    assert rms_norm(x).dtype == dtype


def test_recomputing_changes_neither_value_nor_gradient() -> None:
    torch.compiler.reset()
    compiled = torch.compile(rms_norm_recomputed, fullgraph=True, backend="aot_eager")
    x, weight = torch.randn(2, 4, 8, dtype=torch.float64)
    gradients = []
    for norm in (rms_norm, compiled):
        leaf = x.clone().requires_grad_()
        (norm(leaf) * weight).sum().backward()
        gradients.append(leaf.grad)
    assert torch.equal(compiled(x), rms_norm(x))
    torch.testing.assert_close(*gradients)
