"""Gains of every token: none at first, one column for each part and layer."""

import torch

from ramengpt.model.token_gains import TokenGains
from tests.model.tiny import new_model, packed, tiny_config


@torch.no_grad()
def test_columns_are_layers_of_the_parts_that_are_on():
    for on in (("embedding_mix", "bigram_embedding"), ("bigram_embedding",)):
        config = tiny_config(**{"embedding_mix": False} | dict.fromkeys(on, True))
        module = TokenGains(config).double()
        torch.nn.init.normal_(module.weight_in)
        torch.nn.init.normal_(module.weight_out)
        module.scale.fill_(0.5)
        x0_TD = torch.randn(7, 32, dtype=torch.float64)
        found = module(x0_TD)
        assert tuple(found) == on
        hidden = torch.nn.functional.gelu(x0_TD @ module.weight_in.T)
        table = hidden @ module.weight_out.T / 2
        columns = [gain for gains in found.values() for gain in gains]
        torch.testing.assert_close(torch.cat(columns, dim=1), table)


def test_without_anything_to_weigh_there_are_none():
    off = tiny_config(embedding_mix=False, bigram_embedding=False)
    assert new_model(off).token_gains is None


def test_they_learn_from_the_first_step():
    model = new_model(tiny_config(value_embedding_init_std=1.0))
    with torch.no_grad():
        model.bigram.weight.normal_()
    model(*packed([20, 5])).backward()
    assert model.token_gains.weight_out.grad.abs().amax(1).min() > 0
    assert not model.token_gains.weight_in.grad.any()  # until weight_out is off zero
