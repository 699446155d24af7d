"""Softcapped logits and their losses."""

import torch

from ramengpt.model.head import Head
from tests.model.tiny import tiny_config


def head(std: float) -> Head:
    torch.manual_seed(0)
    made = Head(tiny_config(), float8=False).double()
    torch.nn.init.normal_(made.weight, std=std)
    return made


def test_logits_are_the_softcap_of_the_product():
    made, x = head(0.3), torch.randn(5, 32, dtype=torch.float64)
    z = x @ made.weight[:61].T
    torch.testing.assert_close(made.logits(x), 23 / (1 + torch.exp(-(z + 5) / 7.5)))


def test_logits_stay_between_zero_and_the_scale_and_keep_their_order():
    made, x = head(3.0), torch.randn(50, 32, dtype=torch.float64)
    logits = made.logits(x)
    assert (logits > 0).all() and (logits < 23).all()
    assert torch.equal(logits.argsort(), (x @ made.weight[:61].T).argsort())


def test_padded_vocabulary_has_no_probability():
    made, x = head(0.3), torch.randn(5, 32, dtype=torch.float64)
    targets = torch.tensor([0, 7, 60, 3, 3], dtype=torch.int32)
    before = made.losses(x, targets, None)
    with torch.no_grad():
        made.weight[61:] = 1e6
    assert made.weight.shape == (64, 32)
    assert made.logits(x).shape == (5, 61)
    assert all(map(torch.equal, made.losses(x, targets, None), before))
    made.losses(x, targets, None)[0].backward()
    assert not made.weight.grad[61:].any() and made.weight.grad[:61].any(1).all()


def test_losses_are_the_cross_entropy_of_the_logits():
    made, x = head(0.3), torch.randn(5, 32, dtype=torch.float64)
    targets = torch.tensor([0, 7, 60, 3, 3], dtype=torch.int32)
    loss, token_losses = made.losses(x, targets, None)
    expected = torch.nn.functional.cross_entropy(made.logits(x), targets.long(), reduction="none")
    torch.testing.assert_close(token_losses.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(loss.double(), expected.mean(), rtol=1e-6, atol=0)
