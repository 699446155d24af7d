"""Repeated Cholesky QR against LAPACK's QR, and where it must say that it failed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
    q, good = orthogonal_factor(matrix, 2, 2, SHIFT)
    assert good.all()
    assert defect(q) < 2e-6
    exact = positive_diagonal_q(matrix.double())
    torch.testing.assert_close(q.double(), exact, rtol=0, atol=2e-3)


def test_one_plain_pass_falls_short_of_two() -> None:
    matrix = rotation(64) * torch.logspace(0, -5, 64) @ rotation(64, seed=3)
    short = orthogonal_factor(matrix[None].float(), 1, 1, SHIFT)[0]
    whole = orthogonal_factor(matrix[None].float(), 2, 2, SHIFT)[0]
    assert defect(whole) < 2e-6
    assert defect(short) > 10 * defect(whole)


def test_singular_values_that_float32_loses_need_the_second_shifted_pass() -> None:
    matrix = (rotation(64) * torch.logspace(0, -7, 64) @ rotation(64, seed=3))[None].float()
    assert not orthogonal_factor(matrix, 1, 2, SHIFT)[1].any()
    q, good = orthogonal_factor(matrix, 2, 2, SHIFT)
    assert good.all()
    assert defect(q) < 2e-6


def test_float64_agrees_with_lapack() -> None:
    matrix = gaussian(3, 40, 40)
    q, good = orthogonal_factor(matrix, 1, 2, 1e-12)
    assert good.all()
    torch.testing.assert_close(q, positive_diagonal_q(matrix), rtol=0, atol=1e-11)


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_scale_does_not_matter(factor: float) -> None:
    matrix = gaussian(2, 32, 32).float()
    scaled, good = orthogonal_factor(factor * matrix, 2, 2, SHIFT)
    assert good.all()
    torch.testing.assert_close(scaled, orthogonal_factor(matrix, 2, 2, SHIFT)[0], rtol=0, atol=1e-3)


def test_matrices_without_a_factor_are_reported_and_leave_the_others_alone() -> None:
    matrix = gaussian(3, 32, 32).float()
    expected = orthogonal_factor(matrix[:1], 2, 2, SHIFT)[0]
    matrix[1] = 0.0
    matrix[2, 0, 0] = torch.nan
    q, good = orthogonal_factor(matrix, 2, 2, SHIFT)
    assert good.tolist() == [True, False, False]
    torch.testing.assert_close(q[:1], expected, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(2, 40), rank=st.integers(1, 40), seed=st.integers(0, 999))
def test_what_counts_as_good_is_orthogonal_whatever_the_rank(rows, rank, seed) -> None:
    rank = min(rank, rows)
    matrix = gaussian(4, rows, rank, seed=seed) @ gaussian(4, rank, rows, seed=seed + 1)
    q, good = orthogonal_factor(matrix.float(), 2, 2, SHIFT)
    assert not good.any() or defect(q[good]) < 2e-6
    assert good.all() or rank < rows


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
        q, good = orthogonal_factor(matrix, 2, 2, SHIFT)
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    assert good.all()
    assert defect(q.cpu().double()) < 1e-5
