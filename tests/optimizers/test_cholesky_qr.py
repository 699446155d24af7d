"""Repeated Cholesky QR against LAPACK's QR, and where it must say that it failed."""

import pytest
import torch

from ramengpt.optimizers.cholesky_qr import BLOCK_ROWS, inverse_cholesky, orthogonal_factor
from tests.optimizers.models import gaussian, rotation

SHIFT = 1e-7


def defect(q: torch.Tensor) -> float:
    """Largest entry of Q^T Q - I."""
    return float((q.mT @ q - torch.eye(q.size(-1), dtype=q.dtype)).abs().max())


def positive_diagonal_q(matrix: torch.Tensor) -> torch.Tensor:
    q, r = torch.linalg.qr(matrix)
    return q * torch.sign(r.diagonal(dim1=-2, dim2=-1))[..., None, :]


@pytest.mark.parametrize("rows", [5, 64, BLOCK_ROWS + 1, 300])
def test_square_noise_in_float32_becomes_orthogonal(rows: int) -> None:
    matrix = gaussian(2, rows, rows).float()
    q, good = orthogonal_factor(matrix, 3, SHIFT)
    assert good.all()
    assert defect(q) < 2e-6
    exact = positive_diagonal_q(matrix.double())
    torch.testing.assert_close(q.double(), exact, rtol=0, atol=2e-3)


def test_two_passes_without_the_third_fall_short() -> None:
    matrix = rotation(64) * torch.logspace(0, -5, 64) @ rotation(64, seed=3)
    two = orthogonal_factor(matrix[None].float(), 2, SHIFT)[0]
    three = orthogonal_factor(matrix[None].float(), 3, SHIFT)[0]
    assert defect(three) < 2e-6
    assert defect(two) > 10 * defect(three)


def test_float64_agrees_with_lapack() -> None:
    matrix = gaussian(3, 40, 40)
    q, good = orthogonal_factor(matrix, 3, 1e-12)
    assert good.all()
    torch.testing.assert_close(q, positive_diagonal_q(matrix), rtol=0, atol=1e-11)


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_scale_does_not_matter(factor: float) -> None:
    matrix = gaussian(2, 32, 32).float()
    scaled, good = orthogonal_factor(factor * matrix, 3, SHIFT)
    assert good.all()
    torch.testing.assert_close(scaled, orthogonal_factor(matrix, 3, SHIFT)[0], rtol=0, atol=1e-3)


def test_singular_matrices_are_reported_and_leave_the_others_alone() -> None:
    matrix = gaussian(4, 32, 32).float()
    expected = orthogonal_factor(matrix[:1], 3, SHIFT)[0]
    matrix[1] = 0.0
    matrix[2] = matrix[2, :, :4] @ matrix[2, :4]
    matrix[3, 0, 0] = torch.nan
    q, good = orthogonal_factor(matrix, 3, SHIFT)
    assert good.tolist() == [True, False, False, False]
    torch.testing.assert_close(q[:1], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", [7, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS + 5])
def test_blocks_give_the_inverse_of_the_whole_factor(rows: int) -> None:
    noise = gaussian(2, rows, rows)
    gram = noise @ noise.mT + torch.eye(rows, dtype=torch.float64)
    inverse, good = inverse_cholesky(gram)
    assert good.all()
    assert inverse.triu(1).abs().max() == 0
    product = inverse @ torch.linalg.cholesky(gram)
    torch.testing.assert_close(product, torch.eye(rows, dtype=torch.float64).expand_as(product))


@pytest.mark.parametrize("place", [0, BLOCK_ROWS + 3])
def test_an_indefinite_matrix_is_found_in_any_block(place: int) -> None:
    gram = torch.eye(2 * BLOCK_ROWS).repeat(2, 1, 1)
    gram[1, place, place] = -1.0
    assert inverse_cholesky(gram)[1].tolist() == [True, False]


@pytest.mark.gpu
def test_tensor_cores_do_not_spoil_orthogonality() -> None:
    matrix = gaussian(4, 512, 512).float().cuda()
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        q, good = orthogonal_factor(matrix, 3, SHIFT)
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    assert good.all()
    assert defect(q.cpu().double()) < 1e-5
