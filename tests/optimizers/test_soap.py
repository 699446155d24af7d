"""SOAP against the implementation of pytorch-optimizer, and Adam where nothing is rotated."""

import pytest
import torch
from pytorch_optimizer import SOAP

from ramengpt.optimizers.soap import Soap
from tests.optimizers.models import PARAMS, gaussian, optimizer_config, scalars


def soap(**basis) -> Soap:
    values = PARAMS["bases"]["covariances"] | basis
    return Soap(optimizer_config("soap", epsilon=1e-8, basis=values), compile=False)


def graded(*shape: int, seed: int) -> torch.Tensor:
    """A gradient whose covariances have eigenvalues far apart, so that their order is sure."""
    scales = [torch.logspace(0, -1, size, dtype=torch.float64) for size in shape[-2:]]
    return scales[0][:, None] * gaussian(*shape, seed=seed) * scales[1]


@pytest.mark.parametrize(("columns", "largest_side"), [(6, 4096), (12, 10)])
@pytest.mark.parametrize("every_steps", [1, 3])
def test_it_is_the_librarys(every_steps: int, columns: int, largest_side: int) -> None:
    """Where every rotated side has full rank: a null space has no basis of its own."""
    rule, weight = soap(every_steps=every_steps, largest_side=largest_side), gaussian(1, 6, columns)
    theirs = torch.nn.Parameter(weight[0].clone())
    their_optimizer = SOAP(
        [theirs],
        lr=0.02,
        betas=(0.95, 0.95),
        shampoo_beta=0.9,
        weight_decay=0.0,
        precondition_frequency=every_steps,
        max_precondition_dim=largest_side,
        eps=1e-8,
    )
    state = rule.new_state(weight)
    for update in range(1, 16):
        gradient = graded(1, 6, columns, seed=update)
        theirs.grad = gradient[0].clone()
        their_optimizer.step()
        rule.step(weight, gradient, state, scalars(update, 0.01, lr_mul=2.0))
        # The library rounds its bases to float32.
        torch.testing.assert_close(weight[0], theirs.detach(), rtol=0, atol=2e-5)
    assert float((weight - gaussian(1, 6, columns)).abs().max()) > 0.05


def test_without_rotated_sides_it_is_adam_from_its_second_step_on() -> None:
    rule, weight = soap(largest_side=1), gaussian(1, 5, 7)
    theirs = torch.nn.Parameter(weight.clone())
    adam = torch.optim.Adam([theirs], lr=0.02, betas=(0.95, 0.95))
    state = rule.new_state(weight)
    for update in range(1, 8):
        gradient = gaussian(1, 5, 7, seed=update)
        rule.step(weight, gradient, state, scalars(update, 0.02))
        if update > 1:
            theirs.grad = gradient.clone()
            adam.param_groups[0]["eps"] = 1e-8 / (1 - 0.95 ** (update - 1)) ** 0.5
            adam.step()
        torch.testing.assert_close(weight, theirs.detach(), rtol=0, atol=1e-14)
