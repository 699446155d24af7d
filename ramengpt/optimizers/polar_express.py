"""Polar Express: the orthogonal factor of a matrix, computed by GEMMs only (arXiv 2505.16932).

Shapes: N matrices of R rows and C columns; S = min(R, C), B = max(R, C).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ramengpt.kernels.support import runs_kernels
from ramengpt.optimizers.polar_coefficients import Quintic
from ramengpt.optimizers.rule import SMALLEST_NORM


def polar_express(
    matrix_NRC: Tensor, coefficients: tuple[Quintic, ...], headroom: float, dtype: torch.dtype
) -> Tensor:
    """Bring all singular values close to 1, and keep the singular vectors.

    Zero stays zero, and a positive factor changes nothing. In bfloat16 directions that hold less
    than about 5e-3 of the norm are partly noise, which is lifted too.

    Args:
        matrix_NRC: the matrices.
        coefficients: of the polynomials, in order.
        headroom: the Frobenius norm is brought to 1 / headroom, so that roundoff does not push
            a singular value beyond 1.
        dtype: of the products and of the result.
    Returns:
        [N, R, C] of that type.
    """
    wide_NSB = normalised_wide(matrix_NRC, headroom, dtype)
    return restored(apply_polynomials(wide_NSB, coefficients), matrix_NRC)


def normalised_wide(matrix_NRC: Tensor, headroom: float, dtype: torch.dtype) -> Tensor:
    """The matrices at norm 1 / headroom, transposed if they are tall, contiguous."""
    norm_N11 = torch.linalg.vector_norm(matrix_NRC, dim=(-2, -1), keepdim=True)
    unit_NRC = (matrix_NRC / (headroom * norm_N11.clamp_min(SMALLEST_NORM))).to(dtype)
    return (unit_NRC.mT if is_tall(matrix_NRC) else unit_NRC).contiguous()


def restored(wide_NSB: Tensor, like_NRC: Tensor) -> Tensor:
    """Undo the transposition of :func:`normalised_wide`."""
    return wide_NSB.mT if is_tall(like_NRC) else wide_NSB


def is_tall(matrix_NRC: Tensor) -> bool:
    """Whether the matrices have more rows than columns."""
    return matrix_NRC.size(-2) > matrix_NRC.size(-1)


def apply_polynomials(x_NSB: Tensor, coefficients: tuple[Quintic, ...]) -> Tensor:
    """Apply each polynomial to all singular values of wide matrices.

    a X + b (X X^T) X + c (X X^T)^2 X, where the symmetric factors are formed first, since they are
    the smaller ones; on a GPU only half of each is computed, if they are large.
    """
    gram, quadratic = _symmetric_products(x_NSB)
    for a, b, c in coefficients:
        polynomial_NSS = quadratic(gram(x_NSB), b, c)
        x_NSB = torch.baddbmm(x_NSB, polynomial_NSS, x_NSB, beta=a)
    return x_NSB


def _symmetric_products(
    x_NSB: Tensor,
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, float, float], Tensor]]:
    """The functions X -> X X^T and (A, b, c) -> b A + c A A for the device and the size of X."""
    if runs_kernels(x_NSB):
        from ramengpt.kernels import symmetric_matmul

        if x_NSB.size(-2) >= symmetric_matmul.SMALLEST_WORTHWHILE_ROWS:
            return symmetric_matmul.symmetric_product, symmetric_matmul.symmetric_quadratic
    return _plain_product, _plain_quadratic


def _plain_product(x_NSB: Tensor) -> Tensor:
    """X X^T."""
    return x_NSB @ x_NSB.mT


def _plain_quadratic(a_NSS: Tensor, linear: float, quadratic: float) -> Tensor:
    """b A + c A A."""
    return torch.baddbmm(a_NSS, a_NSS, a_NSS, beta=linear, alpha=quadratic)
