"""Dense connections: nothing at first, then a mix of earlier outputs that each token weighs."""

import torch

from ramengpt.model.dense_connections import DenseConnection
from ramengpt.model.gpt import GPT
from tests.model.tiny import packed, tiny_config


def fresh(**changes: object) -> GPT:
    torch.manual_seed(3)
    model = GPT(
        tiny_config(**changes),
        max_sequence_tokens=64,
        backend="sdpa",
        compute_dtype=torch.float64,
    ).double()
    model.set_window(128)
    return model


def test_a_new_network_is_what_it_is_without_them():
    with_them, without = fresh(), fresh(dense_connections=False)
    without.load_state_dict(with_them.state_dict(), strict=False)
    tokens, _, positions = packed([20, 5])
    assert torch.equal(with_them.logits(tokens, positions), without.logits(tokens, positions))


def test_coefficients_weigh_the_sources():
    mix = DenseConnection(tiny_config(), num_sources=2).double()
    torch.nn.init.normal_(mix.weight_in)
    torch.nn.init.zeros_(mix.weight_out)
    with torch.no_grad():
        mix.bias.copy_(torch.tensor([10.0, -5.0]))
    x, first, second = torch.randn(3, 7, 32, dtype=torch.float64)
    torch.testing.assert_close(mix(x, [first, second]), x + first - 0.5 * second)


def test_its_output_matrix_learns_from_the_first_step():
    """Both matrices at zero would never leave it."""
    model = fresh()
    tokens, targets, positions = packed([20, 5])
    model(tokens, targets, positions).backward()
    assert model.into_head.weight_out.grad.abs().max() > 0
    assert model.into_last.weight_in.grad.abs().max() == 0  # until weight_out is off zero
