"""MuonEq-R: Muon, with the rows of the momentum normalised first (arXiv 2603.28254).

Shapes: N matrices of R rows and C columns, stored (out, in); wide ones have S = min(R, C) rows.
"""

import torch
from torch import Tensor

from ramengpt.optimizers.muon import Muon
from ramengpt.optimizers.polar_express import normalised_wide
from ramengpt.optimizers.rule import nesterov_direction, reciprocal_root


def equal_rows(matrix_NRC: Tensor) -> Tensor:
    """Bring every row to mean square 1; rows of zeros stay zero."""
    return matrix_NRC * reciprocal_root(matrix_NRC.square().mean(dim=-1, keepdim=True))


def prepared_equal_rows(
    gradient_NRC: Tensor,
    momentum_NRC: Tensor,
    momentum: Tensor,
    headroom: float,
    dtype: torch.dtype,
) -> Tensor:
    """Update the momentum in place; return the direction as the polynomials take it."""
    direction_NRC = nesterov_direction(gradient_NRC, momentum_NRC, momentum)
    return normalised_wide(equal_rows(direction_NRC), headroom, dtype)


class MuonEqR(Muon):
    """Muon with one row normalisation in front.

    It raises the stable rank of a momentum whose rows differ in size. On a wide matrix of full rank
    that helps the polynomials to converge, since the exact orthogonal factor hardly changes; on a
    tall one it changes the direction. The step keeps Muon's scale.
    """

    prepare = staticmethod(prepared_equal_rows)
