"""Adam against torch.optim.Adam and against its own decay rule."""

import pytest
import torch

from ramengpt.optimizers.adam import Adam
from tests.optimizers.models import adam_config, gaussian, scalars


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.65, 0.95), (0.0, 0.5)])
def test_without_decay_it_is_torchs_with_its_epsilon_corrected(beta1, beta2) -> None:
    epsilon = 1e-3
    rule = Adam(adam_config(beta1=beta1, beta2=beta2, epsilon=epsilon), compile=False)
    weight = gaussian(5, 7)
    theirs = torch.nn.Parameter(weight.clone())
    torch_adam = torch.optim.Adam([theirs], lr=0.02, betas=(beta1, beta2))
    state = rule.new_state(weight)
    for update in range(1, 11):
        gradient = gaussian(5, 7, seed=update)
        theirs.grad = gradient.clone()
        torch_adam.param_groups[0]["eps"] = epsilon / (1 - beta2**update) ** 0.5
        torch_adam.step()
        rule.step(weight, gradient, state, scalars(update, 0.01, lr_mul=2.0))
        torch.testing.assert_close(weight, theirs.detach(), rtol=0, atol=1e-14)


def one_step(weight, gradient, **numbers) -> torch.Tensor:
    rule = Adam(adam_config(), compile=False)
    result = weight.clone()
    rule.step(result, gradient, rule.new_state(result), scalars(**numbers))
    return result


def test_only_weights_that_shrink_decay() -> None:
    weight, gradient = gaussian(6, 8), gaussian(6, 8, seed=1)
    weight[0, 0] = gradient[0, 1] = 0.0
    plain = one_step(weight, gradient)
    decayed = one_step(weight, gradient, weight_decay=2.0)
    shrinks = (weight - plain) * weight > 0
    assert torch.equal(plain[~shrinks], decayed[~shrinks])
    torch.testing.assert_close(
        decayed[shrinks], (plain - 0.1**2 * 2.0 * weight)[shrinks], rtol=0, atol=1e-14
    )


def test_moments_are_kept_in_float32() -> None:
    state = Adam(adam_config(), compile=False).new_state(torch.zeros(3))
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
