"""Eigenbases of the covariances: invariants, convergence, order, singular ones."""

import pytest
import torch

from ramengpt.optimizers import eigenbasis
from tests.optimizers.models import gaussian, optimizer_config, rotation

BASIS = optimizer_config("soap").basis
EIGENVALUES = torch.logspace(2, -2, 12, dtype=torch.float64)


def state_with(covariance: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of one matrix [R, C] whose left covariance is given and whose right side is too long."""
    weight = torch.zeros(1, covariance.size(-1), 40, dtype=covariance.dtype)
    state = eigenbasis.new_bases(weight, BASIS.model_copy(update={"largest_side": 39}))
    assert set(state) == {"left_covariance", "left_basis", "kept_bases"}
    state["left_covariance"].copy_(covariance)
    return state


def refreshed(state: dict[str, torch.Tensor], times: int) -> torch.Tensor:
    """The basis after some refreshments, and the second moment beside it."""
    second_moment = torch.zeros(1, state["left_basis"].size(-1), 40, dtype=torch.float64)
    for _ in range(times):
        eigenbasis.refresh_bases(state, second_moment, BASIS)
    return state["left_basis"][0]


def test_refreshing_converges_to_the_eigenvectors_in_order() -> None:
    vectors = rotation(12)
    state = state_with(vectors * EIGENVALUES @ vectors.T)
    basis = refreshed(state, 300)
    torch.testing.assert_close((vectors.T @ basis).abs(), torch.eye(12).double(), rtol=0, atol=1e-6)
    assert state["kept_bases"] == 0


def test_bases_stay_orthonormal() -> None:
    weight = gaussian(3, 10, 24)
    state = eigenbasis.new_bases(weight, BASIS)
    second_moment = torch.zeros_like(weight)
    for step in range(30):
        eigenbasis.update_covariances(state, gaussian(3, 10, 24, seed=step), 0.9)
        eigenbasis.refresh_bases(state, second_moment, BASIS)
        for side, length in (("left", 10), ("right", 24)):
            basis = state[f"{side}_basis"]
            identity = torch.eye(length).double().expand_as(basis)
            torch.testing.assert_close(basis.mT @ basis, identity, rtol=0, atol=1e-12)
    assert state["kept_bases"] == 0


def test_in_float32_rank_deficient_covariances_keep_bases_orthonormal() -> None:
    """Of a matrix that never gets a gradient in some rows, from few gradients."""
    weight = torch.zeros(2, 48, 16)
    state = eigenbasis.new_bases(weight, BASIS)
    second_moment = torch.zeros_like(weight)
    for step in range(12):
        gradient = gaussian(2, 48, 16, seed=step).float()
        gradient[:, 20:30] = 0
        eigenbasis.update_covariances(state, gradient, 0.9)
        eigenbasis.set_eigenbases(state) if step == 0 else None
        eigenbasis.refresh_bases(state, second_moment, BASIS)
        basis = state["left_basis"]
        identity = torch.eye(48).expand_as(basis)
        torch.testing.assert_close(basis.mT @ basis, identity, rtol=0, atol=1e-5)
    assert state["kept_bases"] == 0


def test_covariances_are_running_means_of_both_products() -> None:
    weight = gaussian(2, 5, 7)
    state = eigenbasis.new_bases(weight, BASIS)
    left, right = torch.zeros(2, 5, 5).double(), torch.zeros(2, 7, 7).double()
    for step in range(3):
        gradient = gaussian(2, 5, 7, seed=step)
        left = 0.8 * left + 0.2 * gradient @ gradient.mT
        right = 0.8 * right + 0.2 * gradient.mT @ gradient
        eigenbasis.update_covariances(state, gradient, 0.8)
    torch.testing.assert_close(state["left_covariance"], left, rtol=0, atol=1e-13)
    torch.testing.assert_close(state["right_covariance"], right, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dim", [-2, -1])
def test_the_second_moment_follows_the_sorted_vectors(dim: int) -> None:
    weight = torch.zeros(1, 4, 4, dtype=torch.float64)
    state = eigenbasis.new_bases(weight, BASIS)
    eigenvalues = torch.tensor([1.0, 4.0, 2.0, 3.0], dtype=torch.float64)
    state["left_covariance" if dim == -2 else "right_covariance"][0] = eigenvalues.diag()
    other = "right_covariance" if dim == -2 else "left_covariance"
    state[other][0] = torch.eye(4, dtype=torch.float64)
    second_moment = eigenvalues.unsqueeze(-1).expand(4, 4)[None].clone()
    second_moment = second_moment if dim == -2 else second_moment.mT.clone()
    eigenbasis.refresh_bases(state, second_moment, BASIS)
    along = second_moment[0, :, 0] if dim == -2 else second_moment[0, 0]
    assert along.tolist() == [4.0, 3.0, 2.0, 1.0]


def test_rotating_there_and_back_is_nothing() -> None:
    weight = gaussian(2, 6, 9)
    state = eigenbasis.new_bases(weight, BASIS)
    eigenbasis.update_covariances(state, gaussian(2, 6, 9, seed=1), 0.9)
    eigenbasis.set_eigenbases(state)
    turned = eigenbasis.rotated(weight, state)
    assert not torch.allclose(turned, weight)
    torch.testing.assert_close(eigenbasis.rotated_back(turned, state), weight, rtol=0, atol=1e-13)
