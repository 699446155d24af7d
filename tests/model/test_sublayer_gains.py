"""Weights of the residual stream and of a sublayer's output."""

import torch

from ramengpt.model.sublayer_gains import SublayerGains
from tests.model.tiny import new_model, tiny_config


def test_both_are_weighed():
    gains = SublayerGains().double()
    with torch.no_grad():
        gains.residual.fill_(1.5)
        gains.output.fill_(-2.0)
    x, y = torch.randn(2, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(gains(x, y), 1.5 * x - 2 * y)


def test_small_changes_survive_bfloat16():
    gains = SublayerGains()
    with torch.no_grad():
        gains.residual.fill_(1.003)  # 1 in bfloat16
        gains.output.fill_(0.0)
    x = torch.full((4, 1), 255.0).bfloat16()
    found = gains(x, x)
    assert found.dtype == torch.bfloat16
    assert found.flatten().tolist() == [256.0] * 4  # 255.8, rounded once


def test_a_layer_keeps_as_much_of_its_input_as_with_one_weight():
    model = new_model(tiny_config(sublayer_gains=True))
    gains = model.blocks[0].around_mlp.gains
    assert gains.output == 1
    assert abs(gains.residual.item() ** 2 - 1.1) < 1e-6
