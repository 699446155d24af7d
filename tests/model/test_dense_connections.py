"""Dense connections: nothing at first, then a mix of earlier outputs that each token weighs."""

import torch

from ramengpt.model.dense_connections import DenseConnection
from tests.model.tiny import new_model, packed, tiny_config


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
    model = new_model(tiny_config())
    model(*packed([20, 5])).backward()
    assert model.into_head.weight_out.grad.abs().max() > 0
    assert model.into_last.weight_in.grad.abs().max() == 0  # until weight_out is off zero
