"""Weights of the residual stream and of a sublayer's output."""

import torch

from ramengpt.model.sublayer_gains import SublayerGains
from tests.model.test_initialisation import fresh
from tests.model.tiny import packed


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
    gains = [parameter for parameter in fresh(sublayer_gains=True).parameters()]
    found = {p.label: p.item() for p in gains if p.label in {"residual_gain", "output_gain"}}
    assert found["output_gain"] == 1
    assert abs(found["residual_gain"] ** 2 - 1.1) < 1e-6


def test_gains_of_one_leave_the_sum():
    one = fresh(sublayer_gains=True, residual_lambda=1.0, attention_output_init_gain=0.5)
    plain = fresh(residual_lambda=1.0, attention_output_init_gain=0.5)
    plain.load_state_dict(one.state_dict(), strict=False)
    tokens, _, positions = packed([20, 9])
    for model in (one, plain):
        model.set_window(128)
    assert torch.equal(one.logits(tokens, positions), plain.logits(tokens, positions))
