"""From labelled parameters and params.yaml to groups with their rates."""

import pytest
import torch

from tests.optimizers.models import (
    PARAMS,
    SPLIT,
    assert_same,
    optimizers_of,
    set_gradients,
    small_model,
    train,
    values,
)


def test_a_run_that_never_ties_starts_with_two_matrices() -> None:
    parameters = small_model()
    before = values(parameters)
    optimizers = optimizers_of(parameters, embedding_tied=False)
    assert_same(values(parameters), before)
    train(parameters, optimizers, [SPLIT])
    assert not torch.equal(parameters["embedding.weight"], parameters["head.weight"])


def test_tying_needs_an_embedding_and_a_head() -> None:
    parameters = small_model()
    del parameters["head.weight"]
    with pytest.raises(ValueError, match="exactly one parameter with each label"):
        optimizers_of(parameters, embedding_tied=True)


def test_every_group_has_its_own_rate_and_decay() -> None:
    optimizers = optimizers_of(
        small_model(), "normuon", head_learning_rate=0.125, learning_rate=2.0
    )
    rates = {group.name: group.learning_rate for group in optimizers.param_groups}
    assert rates["embedding/head.weight"] == 0.125
    assert rates["embedding/embedding.weight"] == PARAMS["embedding_adam"]["learning_rate"]
    assert rates["scalar"] == PARAMS["scalar_adam"]["learning_rate"]
    assert {rate for name, rate in rates.items() if name.startswith("hidden/")} == {2.0}
    decays = {group.group: group.weight_decay for group in optimizers.param_groups}
    assert decays["embedding"] == PARAMS["embedding_adam"]["weight_decay"]
    assert decays["hidden"] == PARAMS["optimizers"]["normuon"]["weight_decay"]


@pytest.mark.parametrize("name", ["embedding.weight", "head.weight", "0.lambda", "1.gate"])
def test_a_parameters_own_numbers_of_adam_move_only_itself(name: str) -> None:
    runs = []
    for own_adam in ({}, {"beta1": 0.5, "beta2": 0.8, "epsilon": 1e-3}):
        parameters = small_model()
        parameters[name].own_adam = own_adam
        train(parameters, optimizers_of(parameters), [SPLIT] * 3)
        runs.append(values(parameters))
    usual, own = runs
    assert not torch.equal(usual.pop(name), own.pop(name))
    assert_same(usual, own)


@pytest.mark.parametrize("name", ["head.weight", "1.lambda"])
def test_own_numbers_of_adam_are_torchs(name: str) -> None:
    parameters = small_model(dtype=torch.float64)
    parameter = parameters[name]
    own = {"beta1": 0.5, "beta2": 0.8, "epsilon": 1e-3}
    parameter.own_adam, parameter.wd_mul = own, 0.0
    optimizers = optimizers_of(parameters)
    group = next(g for g in optimizers.param_groups if name in g.stack.members)
    theirs = torch.nn.Parameter(parameter.detach().clone())
    rate = group.learning_rate * parameter.lr_mul
    torch_adam = torch.optim.Adam([theirs], lr=rate, betas=(0.5, 0.8))
    for update in range(1, 5):
        set_gradients(parameters, seed=update)
        theirs.grad = parameter.grad.clone()
        torch_adam.param_groups[0]["eps"] = 1e-3 / (1 - 0.8**update) ** 0.5
        torch_adam.step()
        optimizers.step(SPLIT)
    torch.testing.assert_close(parameter, theirs, rtol=0, atol=1e-12)
