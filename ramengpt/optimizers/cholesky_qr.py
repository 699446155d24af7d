"""The orthogonal factor of square matrices by repeated Cholesky QR, mostly GEMMs.

Shapes: N matrices of R rows and columns. A plain pass fails for ill-conditioned matrices. A pass
with a shift relative to the norm cannot fail and improves the condition number by about
1 / sqrt(shift), so that plain passes after it succeed (Fukaya et al., "Shifted Cholesky QR", SIAM
J. Sci. Comput. 2020). The momenta of real training need a second shifted pass: their smallest
singular values are lost in float32, but those directions still come out orthogonal to the others,
as with Householder QR.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ramengpt.optimizers.rule import reciprocal_root

BLOCK_ROWS = 128
"""Up to this size the library factorises; larger matrices are factorised in blocks, because batched
factorisations of large matrices leave a GPU idle."""

LARGEST_LAST_DEFECT = 0.1
"""How far from orthogonal a matrix may be before its last pass, in any entry of its Gram matrix;
then that pass is exact to roundoff."""


def orthogonal_factor(
    matrix_NRR: Tensor, shifted_passes: int, plain_passes: int, shift: float
) -> tuple[Tensor, Tensor]:
    """The Q of a QR decomposition whose R has a positive diagonal.

    Args:
        matrix_NRR: the matrices, float32 or wider.
        shifted_passes: come first.
        plain_passes: at least 1; with 2 the result is orthogonal to about 1e-6 in float32.
        shift: added to a shifted pass's Gram matrix, relative to the squared Frobenius norm.
    Returns:
        The factors [N, R, R], and which of them are valid, bool [N]: not those of matrices of zeros
        or NaN, nor of some singular ones, whose content is undefined. Nothing waits for the device.
    """
    mean_square_N11 = matrix_NRR.square().mean(dim=(-2, -1), keepdim=True)
    q_NRR = matrix_NRR * (reciprocal_root(mean_square_N11) / matrix_NRR.size(-1))
    identity_RR = torch.eye(q_NRR.size(-1), dtype=q_NRR.dtype, device=q_NRR.device)
    good_N = torch.ones(q_NRR.size(0), dtype=torch.bool, device=q_NRR.device)
    with full_precision_products():
        for passes_left in reversed(range(shifted_passes + plain_passes)):
            gram_NRR = q_NRR.mT @ q_NRR
            if passes_left == 0:
                defect_N = (gram_NRR - identity_RR).abs().amax(dim=(-2, -1))
                good_N = good_N & (defect_N < LARGEST_LAST_DEFECT)
            if passes_left >= plain_passes:
                square_N11 = gram_NRR.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
                gram_NRR = gram_NRR + shift * square_N11 * identity_RR
            inverse_NRR, factored_N = inverse_cholesky(gram_NRR)
            good_N = good_N & factored_N
            q_NRR = q_NRR @ inverse_NRR.mT
    return q_NRR, good_N


def inverse_cholesky(gram_NRR: Tensor) -> tuple[Tensor, Tensor]:
    """Inverses of the lower Cholesky factors.

    Args:
        gram_NRR: symmetric matrices.
    Returns:
        The inverses, lower triangular [N, R, R], and which matrices were positive definite,
        bool [N]; the inverses of others are undefined.
    """
    rows = gram_NRR.size(-1)
    if rows <= BLOCK_ROWS:
        lower_NRR, info_N = torch.linalg.cholesky_ex(gram_NRR)
        identity_NRR = torch.eye(rows, dtype=gram_NRR.dtype, device=gram_NRR.device).expand(
            gram_NRR.shape
        )
        inverse_NRR = torch.linalg.solve_triangular(lower_NRR, identity_NRR, upper=False)
        return inverse_NRR, info_N == 0
    half = (rows // 2 + BLOCK_ROWS - 1) // BLOCK_ROWS * BLOCK_ROWS
    top_inverse, top_good_N = inverse_cholesky(gram_NRR[:, :half, :half])
    side = gram_NRR[:, half:, :half] @ top_inverse.mT
    rest = torch.baddbmm(gram_NRR[:, half:, half:], side, side.mT, alpha=-1)
    bottom_inverse, bottom_good_N = inverse_cholesky(rest)
    inverse_NRR = torch.zeros_like(gram_NRR)
    inverse_NRR[:, :half, :half] = top_inverse
    inverse_NRR[:, half:, half:] = bottom_inverse
    inverse_NRR[:, half:, :half] = -(bottom_inverse @ (side @ top_inverse))
    return inverse_NRR, top_good_N & bottom_good_N


@contextmanager
def full_precision_products() -> Iterator[None]:
    """Matrix products in full float32: in TF32 a Gram matrix need not be positive definite."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
