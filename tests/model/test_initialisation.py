"""The first value of every parameter."""

import pytest
import torch

from ramengpt.model.gpt import GPT
from tests.model.tiny import new_model, packed, tiny_config

ZERO = {
    "attention_gate",
    "bigram_embedding",
    "dense_connection_bias",
    "dense_connection_out",
    "embedding_lambda",
    "exclusive_attention",
    "hyper_connection_bias",
    "hyper_connection_weight",
    "mlp_out",
    "skip_gate",
    "smear_gate",
    "smear_lambda",
    "token_gain_out",
    "value_embedding",
    "value_gate",
}


def fresh(**changes: object) -> GPT:
    return new_model(tiny_config(**changes), dtype=torch.float32)


@pytest.mark.parametrize("activation", ["relu_squared", "geglu"])
@pytest.mark.parametrize("more", [False, True])
def test_every_parameter_is_initialised(activation, more):
    parts = {"sublayer_gains": more, "hyper_connections": more}
    for name, parameter in fresh(activation=activation, **parts).named_parameters():
        assert parameter.isfinite().all(), name
        assert parameter.dtype == torch.float32
        assert (not parameter.any()) == (parameter.label in ZERO), name


def test_scales_are_those_of_the_config():
    model = fresh(head_dim=64, vocabulary=4000)
    weight = model.blocks[0].attention.weight.detach()
    bound = (3 / 128) ** 0.5
    assert weight[:384].abs().max() <= bound
    assert float(weight[:384].std()) == pytest.approx(128**-0.5, rel=0.02)
    assert not weight[384:].any()
    mlp = model.blocks[0].mlp.weight_in.detach()
    assert mlp.abs().max() <= bound / 2
    assert float(mlp.std()) == pytest.approx(0.5 * 128**-0.5, rel=0.02)
    assert float(model.head.weight.detach().std()) == pytest.approx(0.005, rel=0.02)


def test_lambdas_start_at_the_config():
    model = fresh()
    assert model.residual_lambda.tolist() == pytest.approx([1.1] * 4)
    assert model.attention_lambda.tolist() == [[0.5, 1.0]] * 3
    assert model.skip.skip_lambda.tolist() == [-1.5]
    assert model.backout_lambda.tolist() == [0.5]
    last = model.blocks[3].attention.value_residual
    assert last.weights_2.tolist() == [0.5, 0.5]
    assert model.blocks[0].attention.value_residual is None


def test_embedding_and_head_are_two_parameters_that_start_equal():
    model = fresh()
    assert model.embedding.weight is not model.head.weight
    assert torch.equal(model.embedding.weight, model.head.weight)


def test_the_seed_decides_the_weights():
    one, two = fresh().state_dict(), fresh().state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("pattern", ["SL-L", "----"])
def test_at_first_every_block_is_the_identity(pattern):
    tables = "----" if pattern == "----" else "ab-a"
    model = fresh(
        attention_pattern=pattern, value_embedding_pattern=tables, paired_heads_pattern="----"
    )
    tokens, _, positions = packed([70, 30])
    x0 = torch.nn.functional.normalize(model.embedding.weight[tokens.long()], dim=1) * 32**0.5
    torch.testing.assert_close(
        model.logits(tokens, positions), model.head.logits(x0), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"dense_connections": True},
        {"token_gains": True},
        {"sublayer_gains": True},
        *({"hyper_connections": True, "hyper_connection_streams": n} for n in (2, 3, 4)),
    ],
    ids=str,
)
@torch.no_grad()
def test_a_new_network_is_what_it_is_without_a_part(changes):
    """Also where every sublayer writes something."""
    changes |= {"attention_output_init_gain": 0.5, "residual_lambda": 1.0}
    with_it = new_model(tiny_config(**changes))
    without = new_model(tiny_config(**changes | {next(iter(changes)): False}))
    for model in (with_it, without):
        for block in model.blocks:
            block.mlp.weight_out.copy_(block.mlp.weight_in / 2)
        model.smear.smear_lambda.fill_(0.3)
    without.load_state_dict(with_it.state_dict(), strict=False)
    tokens, _, positions = packed([20, 5])
    expected = without.logits(tokens, positions)
    torch.testing.assert_close(with_it.logits(tokens, positions), expected, rtol=0, atol=1e-12)
