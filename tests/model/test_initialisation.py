import pytest
import torch

from ramengpt.config import load_config
from ramengpt.model.gpt import GPT
from tests.model.tiny import packed, tiny_config

ZERO = {
    "bigram_embedding",
    "exclusive_attention",
    "dense_connection_bias",
    "dense_connection_out",
    "value_embedding",
    "mlp_out",
    "attention_gate",
    "value_gate",
    "smear_gate",
    "skip_gate",
    "hyper_connection_weight",
    "hyper_connection_bias",
    "token_gain_out",
}


def fresh(**changes: object) -> GPT:
    torch.manual_seed(0)
    return GPT(
        tiny_config(**changes), max_sequence_tokens=256, backend="sdpa", compute_dtype=torch.float32
    )


@pytest.mark.parametrize("activation", ["relu_squared", "geglu"])
@pytest.mark.parametrize("more", [False, True])
def test_every_parameter_is_initialised(activation, more):
    parts = {"sublayer_gains": more, "hyper_connections": more}
    for name, parameter in fresh(activation=activation, **parts).named_parameters():
        assert parameter.isfinite().all(), name
        assert parameter.dtype == torch.float32
        assert (not parameter.any()) == (parameter.label in ZERO or name in {
            "embedding_lambda", "smear.smear_lambda"
        }), name  # fmt: skip


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
    model.set_window(128)
    tokens, _, positions = packed([70, 30])
    x0 = torch.nn.functional.normalize(model.embedding.weight[tokens.long()], dim=1) * 32**0.5
    torch.testing.assert_close(
        model.logits(tokens, positions), model.head.logits(x0), rtol=1e-3, atol=1e-4
    )


def test_labels_groups_and_multipliers():
    from ramengpt.model.parameters import LABELS, set_multipliers

    config = load_config([])
    assert set(type(config.parameters).model_fields) == set(LABELS)
    model = fresh()
    set_multipliers(model.parameters(), config.parameters)
    for parameter in model.parameters():
        multipliers = getattr(config.parameters, parameter.label)
        assert (parameter.lr_mul, parameter.wd_mul) == (multipliers.lr_mul, multipliers.wd_mul)
        assert parameter.group == LABELS[parameter.label].group
        if parameter.group == "hidden":
            blocks = len(parameter.residual_dims)
            block = torch.Size((parameter.size(0) // blocks, parameter.size(1)))
            assert all(block[dim] == 32 for dim in parameter.residual_dims)
        else:
            assert not hasattr(parameter, "residual_dims")
    assert model.blocks[0].attention.weight.residual_dims == (1, 1, 1, 0)
