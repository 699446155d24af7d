"""Polar Express acts on singular values alone."""

import pytest
import torch
from torch import Tensor

from ramengpt.optimizers.polar_coefficients import polar_express_coefficients
from ramengpt.optimizers.polar_express import polar_express
from tests.optimizers.models import gaussian, rotation

COEFFICIENTS = polar_express_coefficients(5, 0.001, 0.02, 1.02)
HEADROOM = 1.02


def express(matrix: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    return polar_express(matrix, COEFFICIENTS, HEADROOM, dtype)


@pytest.mark.parametrize("shape", [(2, 24, 24), (2, 16, 40), (2, 40, 16)])
def test_singular_values_follow_the_scalar_map_and_vectors_stay(shape) -> None:
    matrix = gaussian(*shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    mapped = values / (HEADROOM * matrix.norm(dim=(-2, -1), keepdim=True)[..., 0])
    for polynomial in COEFFICIENTS:
        mapped = polynomial(mapped)
    torch.testing.assert_close(express(matrix), left * mapped[:, None] @ right, rtol=0, atol=1e-13)


def test_transposing_commutes() -> None:
    matrix = gaussian(2, 12, 30)
    torch.testing.assert_close(express(matrix.mT), express(matrix).mT, rtol=0, atol=1e-14)


def test_rotating_commutes() -> None:
    matrix = gaussian(2, 12, 30)
    turned = express(rotation(12) @ matrix)
    torch.testing.assert_close(turned, rotation(12) @ express(matrix), rtol=0, atol=1e-13)


def test_zero_stays_zero() -> None:
    assert express(torch.zeros(2, 8, 12, dtype=torch.float64)).abs().max() == 0


@pytest.mark.parametrize("factor", [1e-12, 1e-6, 1e6])
def test_scale_does_not_matter(factor: float) -> None:
    matrix = gaussian(1, 16, 24).float()
    scaled = express(matrix * factor, torch.float32)
    torch.testing.assert_close(scaled, express(matrix, torch.float32), rtol=1e-4, atol=1e-5)


def test_matrices_of_a_batch_do_not_touch_each_other() -> None:
    matrices = gaussian(3, 8, 12)
    alone = torch.cat([express(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(express(matrices), alone, rtol=0, atol=1e-14)


def test_bfloat16_brings_values_that_are_not_too_small_close_to_one() -> None:
    left, right = rotation(64), torch.linalg.qr(gaussian(128, 64)).Q.mT
    values = torch.linspace(1.0, 0.05, 64, dtype=torch.float64)
    values = values / (HEADROOM * values.norm())
    assert values.min() >= 5e-3
    result = express((left * values @ right)[None], torch.bfloat16)
    found = torch.linalg.svdvals(result.double())
    assert found.min() >= 0.84
    assert found.max() <= 1.16


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(3, 256, 256), (3, 128, 512), (3, 512, 128)])
def test_symmetric_kernels_agree_with_plain_products(shape) -> None:
    matrix = gaussian(*shape)
    on_device = express(matrix.cuda().float(), torch.bfloat16)
    exact = express(matrix)
    error = (on_device.cpu().double() - exact).norm() / exact.norm()
    assert error < 0.07
