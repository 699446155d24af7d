"""From labelled parameters and params.yaml to groups with their rates."""

import pytest
import torch

from tests.optimizers.models import (
    PARAMS,
    Settings,
    assert_same,
    optimizers_of,
    small_model,
    train,
    values,
)

SPLIT = Settings(embedding_tied=False)


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
