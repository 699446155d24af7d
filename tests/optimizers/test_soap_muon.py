"""SOAP-Muon against its equations, and its symmetries, in float64."""

import pytest
import torch

from ramengpt.optimizers.soap_muon import SoapMuon
from tests.optimizers.models import (
    PARAMS,
    gaussian,
    optimizer_config,
    orthogonal,
    rotation,
    scalars,
)

SHAPES = [(2, 8, 8), (2, 12, 8), (2, 8, 12)]


def soap_muon(every_steps: int = 1) -> SoapMuon:
    basis = PARAMS["bases"]["covariances"] | {"every_steps": every_steps}
    return SoapMuon(optimizer_config("soap_muon", basis=basis, beta2=0.9), compile=False)


@pytest.mark.parametrize("every_steps", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_steps_follow_the_equations(shape, every_steps: int) -> None:
    rule, weight = soap_muon(every_steps), gaussian(*shape)
    expected, state = weight.clone(), rule.new_state(weight)
    momentum, second_moment = torch.zeros_like(weight), torch.zeros_like(weight)
    left, right = torch.zeros(2, shape[1], shape[1]), torch.zeros(2, shape[2], shape[2])
    left, right = left.double(), right.double()
    bases = ()
    for update in range(1, 8):
        gradient = gaussian(*shape, seed=update)
        momentum = 0.9 * momentum + 0.1 * gradient
        direction = 0.1 * gradient + 0.9 * momentum
        if bases:
            turned = bases[0].mT @ direction @ bases[1]
            second_moment = 0.9 * second_moment + 0.1 * turned.square()
            direction = bases[0] @ (turned / second_moment.sqrt()) @ bases[1].mT
        step = orthogonal(direction)
        expected = expected - 0.02 * max(1, shape[1] / shape[2]) ** 0.5 * step
        left = 0.9 * left + 0.1 * gradient @ gradient.mT
        right = 0.9 * right + 0.1 * gradient.mT @ gradient
        rule.step(weight, gradient, state, scalars(update, 0.02))
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-10)
        if update == 1:
            # Those of a null space are arbitrary, so the rule's own are taken, and checked.
            bases = state["left_basis"].clone(), state["right_basis"].clone()
            for covariance, basis in zip((left, right), bases, strict=True):
                values = basis.mT @ covariance @ basis
                diagonal = values.diagonal(dim1=-2, dim2=-1)
                torch.testing.assert_close(values, diagonal.diag_embed(), rtol=0, atol=1e-12)
                assert (diagonal.diff() < 1e-12).all()
        elif update % every_steps == 0:
            new = []
            for dim, covariance, old in ((-2, left, bases[0]), (-1, right, bases[1])):
                quotients = (old.mT @ covariance @ old).diagonal(dim1=-2, dim2=-1)
                order = quotients.argsort(descending=True)
                basis = old.gather(-1, order[:, None].expand_as(old))
                along = order[:, :, None] if dim == -2 else order[:, None]
                second_moment = second_moment.gather(dim, along.expand_as(second_moment))
                trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
                new.append(torch.linalg.qr(covariance @ basis + 1e-7 * trace * basis)[0])
            bases = tuple(new)


def test_a_rotated_problem_is_solved_by_the_rotated_steps() -> None:
    """Square and of full rank: a null space has no basis of its own."""
    left, right = rotation(8, seed=3), rotation(8, seed=4)
    plain, turned = gaussian(1, 8, 8), left @ gaussian(1, 8, 8) @ right
    rules = soap_muon(), soap_muon()
    states = rules[0].new_state(plain), rules[1].new_state(turned)
    for update in range(1, 8):
        gradient = gaussian(1, 8, 8, seed=update)
        rules[0].step(plain, gradient, states[0], scalars(update, 0.02))
        rules[1].step(turned, left @ gradient @ right, states[1], scalars(update, 0.02))
    torch.testing.assert_close(turned, left @ plain @ right, rtol=0, atol=1e-8)


def test_the_first_step_is_muons() -> None:
    from ramengpt.optimizers.muon import Muon

    weights = gaussian(2, 8, 12), gaussian(2, 8, 12)
    rules = soap_muon(), Muon(optimizer_config("muon"), compile=False)
    for rule, weight in zip(rules, weights, strict=True):
        rule.step(weight, gaussian(2, 8, 12, seed=1), rule.new_state(weight), scalars(1, 0.02))
    assert torch.equal(*weights)
