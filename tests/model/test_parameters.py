"""Labels: what an optimizer knows about a parameter."""

import pytest
import torch

from ramengpt.config import load_config
from ramengpt.config.parameters import ParametersConfig
from ramengpt.model.parameters import group_of, make_parameter, set_multipliers
from tests.conftest import ROOT
from tests.model.tiny import new_model, tiny_config

LABELS = ParametersConfig.model_fields
MULTIPLIERS = load_config(path=ROOT / "params.yaml").parameters


def test_a_new_parameter_cannot_be_used_by_mistake() -> None:
    parameter = make_parameter("attention", 8, 2)
    assert torch.isnan(parameter).all() and parameter.dtype == torch.float32
    assert (parameter.label, parameter.group) == ("attention", "hidden")
    with pytest.raises(KeyError):
        make_parameter("attentoin", 8, 2)


def test_blocks_of_a_matrix_face_the_residual_stream_as_their_label_says() -> None:
    assert make_parameter("attention", 8, 2).residual_dims == (1, 1, 1, 0)
    assert make_parameter("mlp_in", 8, 2, residual_dims=(1, 1)).residual_dims == (1, 1)
    assert not hasattr(make_parameter("smear_lambda", 1), "residual_dims")


@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_blocks_of_hidden_matrices_are_as_wide_as_the_residual_stream(activation: str) -> None:
    for parameter in new_model(tiny_config(activation=activation)).parameters():
        assert parameter.group == group_of(parameter.label)
        dims = getattr(parameter, "residual_dims", ())
        assert bool(dims) == (parameter.group == "hidden")
        block = (parameter.size(0) // len(dims), parameter.size(1)) if dims else ()
        assert all(block[dim] == 32 for dim in dims)


def test_multipliers_follow_the_label() -> None:
    parameters = [make_parameter(label, 2, 2) for label in LABELS]
    set_multipliers(parameters, MULTIPLIERS)
    for parameter in parameters:
        expected = getattr(MULTIPLIERS, parameter.label)
        assert (parameter.lr_mul, parameter.wd_mul) == (expected.lr_mul, expected.wd_mul)
        assert parameter.own_adam == {}


def test_a_label_may_have_its_own_numbers_of_adam() -> None:
    overrides = ["parameters.head.beta1=0.5", "parameters.head.epsilon=0.001"]
    parameter = make_parameter("head", 2, 2)
    set_multipliers([parameter], load_config(overrides, ROOT / "params.yaml").parameters)
    assert (parameter.lr_mul, parameter.own_adam) == (1.0, {"beta1": 0.5, "epsilon": 0.001})


def test_only_labels_that_adam_updates_can_have_them() -> None:
    for label, field in LABELS.items():
        assert ("beta1" in field.annotation.model_fields) == (group_of(label) != "hidden")
