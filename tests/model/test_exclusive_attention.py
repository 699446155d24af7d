"""Exclusive attention: nothing at strength zero, orthogonal to the own value at full strength."""

import torch

from ramengpt.model.exclusive_attention import without_own_value

FULL = torch.tensor([20.0, 20.0], dtype=torch.float64)


def outputs_and_values() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 5, 2, 8, dtype=torch.float64).unbind()


def test_no_strength_changes_nothing():
    y, v = outputs_and_values()
    assert torch.equal(without_own_value(y, v, torch.zeros(2, dtype=torch.float64)), y)


def test_full_strength_is_orthogonal_to_the_own_value_whatever_its_length():
    y, v = outputs_and_values()
    found = without_own_value(y, v, FULL)
    torch.testing.assert_close((found * v).sum(-1), torch.zeros(5, 2, dtype=torch.float64))
    torch.testing.assert_close(without_own_value(y, 100 * v, FULL), found)
    torch.testing.assert_close(without_own_value(y + 3 * v, v, FULL), found)


def test_its_gradient_in_the_output_is_orthogonal_too():
    y, v = outputs_and_values()
    y.requires_grad_()
    without_own_value(y, v, FULL).sum().backward()
    torch.testing.assert_close((y.grad * v).sum(-1), torch.zeros(5, 2, dtype=torch.float64))


def test_a_token_that_sees_only_itself_gives_nothing():
    _, v = outputs_and_values()
    torch.testing.assert_close(without_own_value(v, v, FULL), torch.zeros_like(v))


def test_a_value_of_zero_takes_nothing_out():
    y, v = outputs_and_values()
    assert torch.equal(without_own_value(y, torch.zeros_like(v), FULL), y)


def test_bfloat16_is_summed_in_float32():
    y, v = (x.bfloat16() for x in outputs_and_values())
    found = without_own_value(y, v, FULL.float())
    exact = without_own_value(y.double(), v.double(), FULL)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=0.01, atol=0.01)
