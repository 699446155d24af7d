"""The MLP with every activation, and its training in float8."""

import math
from typing import get_args

import pytest
import torch

from ramengpt.config.architecture import Activation
from ramengpt.model.mlp import ACTIVATIONS, MLP
from tests.model.tiny import tiny_config


def gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def silu(x: float) -> float:
    return x / (1 + math.exp(-x))


POINTWISE = {
    "relu": lambda x: max(x, 0.0),
    "relu_squared": lambda x: max(x, 0.0) ** 2,
    "gelu": gelu,
    "gelu_squared": lambda x: gelu(x) ** 2,
    "silu": silu,
    "silu_squared": lambda x: silu(x) ** 2,
    "swish": silu,
    "swish_squared": lambda x: silu(x) ** 2,
    "linear": lambda x: x,
    "identity": lambda x: x,
}
GATES = {"swiglu": silu, "geglu": gelu}


def filled(*, float8: bool = False, **changes: object) -> MLP:
    torch.manual_seed(0)
    mlp = MLP(tiny_config(**changes), float8=float8)
    mlp = mlp if float8 else mlp.double()
    for parameter in mlp.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return mlp


def test_every_name_in_params_is_tested_and_known():
    assert (
        set(get_args(Activation))
        == set(ACTIVATIONS) | {"relu_squared"}
        == set(POINTWISE) | set(GATES)
    )


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_activations(name):
    mlp = filled(activation=name)
    x = torch.randn(7, 32, dtype=torch.float64)
    hidden = (x @ mlp.weight_in.T).detach().clone().apply_(POINTWISE[name])
    torch.testing.assert_close(mlp(x), hidden @ mlp.weight_out)
    assert mlp.weight_in.shape == mlp.weight_out.shape == (128, 32)
    assert mlp.weight_in.residual_dims == mlp.weight_out.residual_dims == (1,)


@pytest.mark.parametrize("name", GATES)
def test_gated_activations(name):
    mlp = filled(activation=name)
    x = torch.randn(7, 32, dtype=torch.float64)
    gate, value = (x @ mlp.weight_in.T).detach().split(128, dim=1)  # 8/3 x 32, rounded up to 128
    torch.testing.assert_close(mlp(x), (gate.apply_(GATES[name]) * value) @ mlp.weight_out)
    assert mlp.weight_in.shape == (256, 32) and mlp.weight_out.shape == (128, 32)
    assert mlp.weight_in.residual_dims == (1, 1)


@pytest.mark.parametrize(("activation", "rows"), [("relu", 24), ("geglu", 48)])
def test_ffn_dim_is_the_inner_size(activation, rows):
    mlp = filled(activation=activation, ffn_dim=24)
    assert mlp.weight_in.shape == (rows, 32) and mlp.weight_out.shape == (24, 32)


def test_float8_trains_with_the_scale_of_the_pass_before_and_resumes_with_it() -> None:
    made, resumed = filled(float8=True), MLP(tiny_config(), float8=True)
    x_TD = torch.randn(24, made.weight_in.shape[1])
    assert made.largest_h == 0
    made(x_TD)
    seen = made.largest_h.clone()
    assert seen > 0
    assert not seen.requires_grad
    resumed.load_state_dict(made.state_dict())
    larger_TD = 3 * x_TD
    expected, found = made(larger_TD), resumed(larger_TD)
    assert torch.equal(found, expected)
    assert torch.equal(resumed.largest_h, made.largest_h)
    assert made.largest_h > 4 * seen


def test_without_gradients_float8_is_off() -> None:
    made, plain = filled(float8=True), MLP(tiny_config())
    plain.load_state_dict(dict(made.named_parameters()))
    x_TD = torch.randn(24, made.weight_in.shape[1])
    with torch.no_grad():
        assert torch.equal(made(x_TD), plain(x_TD))
    assert made.largest_h == 0
    assert not torch.equal(made(x_TD), plain(x_TD))


def test_float8_compiles_into_one_graph_with_its_state() -> None:
    made = filled(float8=True)
    x_TD = torch.randn(24, made.weight_in.shape[1])
    expected, seen = made(x_TD), made.largest_h.clone()
    made.largest_h.zero_()
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x_TD), expected)
    assert torch.equal(made.largest_h, seen)
