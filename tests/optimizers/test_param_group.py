"""A group of parameters with its rule, and the embedding and head that start as one matrix."""

import copy

import torch

from tests.optimizers.models import (
    PARAMS,
    SPLIT,
    TIED,
    assert_same,
    optimizers_of,
    set_gradients,
    small_model,
    train,
    values,
)


def test_split_embedding_inherits_the_heads_moments_bit_by_bit() -> None:
    parameters = small_model()
    optimizers = optimizers_of(parameters, embedding_tied=True)
    train(parameters, optimizers, [TIED] * 3)
    param_groups = {param_group.name: param_group for param_group in optimizers.param_groups}
    embedding, head = (
        param_groups["embedding/embedding.weight"],
        param_groups["embedding/head.weight"],
    )
    head_before = copy.deepcopy(head.state)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(SPLIT)
    assert embedding.updates == head.updates == 4
    beta = {"first_moment": "beta1", "second_moment": "beta2"}
    for name, old in head_before.items():
        assert old.abs().max() > 0
        assert torch.equal(embedding.state[name], head.state[name])
        torch.testing.assert_close(head.state[name], old * PARAMS["embedding_adam"][beta[name]])


def test_clipping_and_stepping_count_the_tied_gradient_once() -> None:
    results = []
    for clip_first in (False, True):
        parameters = small_model()
        optimizers = optimizers_of(parameters, embedding_tied=True)
        set_gradients(parameters, 0)
        if clip_first:
            optimizers.clip_gradients(TIED)
            optimizers.clip_gradients(TIED)
        optimizers.step(TIED)
        results.append(values(parameters))
    assert_same(*results)
