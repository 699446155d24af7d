"""Eigenbases of the covariances of both sides of a gradient, in which SOAP rotates.

Shapes: N matrices of R rows and C columns; S is the length of a side. State that these functions
share: `left_covariance` and `left_basis` [N, R, R], `right_covariance` and `right_basis` [N, C, C],
where the side is short enough; the columns of a basis are its vectors, by descending eigenvalue.
"""

import torch
from torch import Tensor

from ramengpt.config.optimizer_blocks import BasisConfig
from ramengpt.optimizers.cholesky_qr import full_precision_products, orthogonal_factor
from ramengpt.optimizers.rule import State, reciprocal_root

SIDES = {"left": -2, "right": -1}
SHIFT_OF_TRACE = 1e-7
"""Added to a covariance's diagonal: a direction without gradients keeps its basis vector."""


def new_bases(weight_NRC: Tensor, config: BasisConfig) -> State:
    """Zero covariances, identity bases, and a count of bases that could not be updated."""
    state = {"kept_bases": torch.zeros((), dtype=torch.int64, device=weight_NRC.device)}
    for side, dim in SIDES.items():
        length = weight_NRC.size(dim)
        if length <= config.largest_side:
            identity_SS = torch.eye(length, dtype=weight_NRC.dtype, device=weight_NRC.device)
            identity_NSS = identity_SS.repeat(weight_NRC.size(0), 1, 1)
            state[f"{side}_covariance"] = torch.zeros_like(identity_NSS)
            state[f"{side}_basis"] = identity_NSS
    return state


def rotated(matrix_NRC: Tensor, state: State) -> Tensor:
    """Left basis^T M right basis."""
    if "left_basis" in state:
        matrix_NRC = state["left_basis"].mT @ matrix_NRC
    return matrix_NRC @ state["right_basis"] if "right_basis" in state else matrix_NRC


def rotated_back(matrix_NRC: Tensor, state: State) -> Tensor:
    """Left basis M right basis^T."""
    if "left_basis" in state:
        matrix_NRC = state["left_basis"] @ matrix_NRC
    return matrix_NRC @ state["right_basis"].mT if "right_basis" in state else matrix_NRC


def update_covariances(state: State, gradient_NRC: Tensor, decay: float) -> None:
    """Update the running means of G G^T and G^T G, in place and full precision."""
    with full_precision_products():
        for side, dim in SIDES.items():
            if f"{side}_covariance" in state:
                side_rows = gradient_NRC if dim == -2 else gradient_NRC.mT
                state[f"{side}_covariance"].baddbmm_(
                    side_rows, side_rows.mT, beta=decay, alpha=1 - decay
                )


def set_eigenbases(state: State) -> None:
    """Take the eigenvectors of the covariances, in place; waits for the device."""
    for side in SIDES:
        if f"{side}_covariance" in state:
            vectors_NSS = torch.linalg.eigh(state[f"{side}_covariance"]).eigenvectors
            state[f"{side}_basis"].copy_(vectors_NSS.flip(-1))


def refresh_bases(state: State, second_moment_NRC: Tensor, config: BasisConfig) -> None:
    """One step of orthogonal iteration from the old bases, in place.

    The vectors are sorted by their Rayleigh quotients first, and so is the second moment along that
    side. Products are brought to columns of length 1, which changes no factor but keeps them well
    conditioned, so that Cholesky QR of the whole stack succeeds; where it does not, a matrix keeps
    its basis.
    """
    with full_precision_products():
        for side, dim in SIDES.items():
            if f"{side}_covariance" not in state:
                continue
            covariance_NSS, basis_NSS = state[f"{side}_covariance"], state[f"{side}_basis"]
            product_NSS = covariance_NSS @ basis_NSS
            quotients_NS = (basis_NSS * product_NSS).sum(dim=-2)
            order_NS = quotients_NS.argsort(dim=-1, descending=True, stable=True)
            along_columns_NSS = order_NS[:, None, :].expand_as(basis_NSS)
            basis_NSS.copy_(basis_NSS.gather(-1, along_columns_NSS))
            order = order_NS[:, :, None] if dim == -2 else order_NS[:, None, :]
            second_moment_NRC.copy_(
                second_moment_NRC.gather(dim, order.expand_as(second_moment_NRC))
            )
            trace_N11 = covariance_NSS.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
            product_NSS = product_NSS.gather(-1, along_columns_NSS)
            product_NSS = product_NSS + SHIFT_OF_TRACE * trace_N11 * basis_NSS
            lengths_N1S = product_NSS.square().mean(dim=-2, keepdim=True)
            new_NSS, good_N = orthogonal_factor(
                product_NSS * reciprocal_root(lengths_N1S),
                config.shifted_qr_passes,
                config.plain_qr_passes,
                config.qr_shift,
            )
            basis_NSS.copy_(torch.where(good_N[:, None, None], new_NSS, basis_NSS))
            state["kept_bases"].add_((~good_N).sum())
