"""Several residual streams: what they learn first, and what their equations say."""

import torch

from ramengpt.model.hyper_connections import HyperConnection
from tests.model.reference import read_streams
from tests.model.tiny import new_model, packed, tiny_config


def test_mixing_and_writing_learn_from_the_first_step_and_reading_from_the_second():
    """Sinkhorn's at their published start would not: off the diagonal gradients are 1e-68.

    While all streams are equal, reading changes only the length of what is normed.
    """
    config = tiny_config(hyper_connections=True, attention_output_init_gain=0.5)
    model = new_model(config)
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.weight_out.copy_(block.mlp.weight_in.detach())
    connections = [m for m in model.modules() if isinstance(m, HyperConnection)]
    assert len(connections) == 7  # three attentions, four MLPs
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for can_read in (False, True):
        optimizer.zero_grad()
        model(*packed([20, 5])).backward()
        for connection in connections:
            # All streams that enter the first sublayer stay equal, whatever the others do.
            uses = slice(0 if can_read and connection is not connections[0] else 1, None)
            assert connection.bias.grad[:, 1:].abs().min() > 1e-7
            assert connection.bias.grad[:, uses].abs().amax(0).min() > 1e-8
            assert connection.weight.grad[1:].abs().amax(1).min() > 1e-7
        optimizer.step()


@torch.no_grad()
def test_coefficients_are_those_of_the_equations():
    generator = torch.Generator().manual_seed(1)
    module = HyperConnection(tiny_config(hyper_connection_streams=3), sublayer=4).double()
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x, read = torch.randn(2, 3, 7, 32, generator=generator, dtype=torch.float64)
    entering, mixed, writes = module(x, read)
    expected = read_streams(module, 4, list(x), list(read))
    torch.testing.assert_close(entering, expected[0])
    torch.testing.assert_close(mixed, torch.stack(expected[1]))
    torch.testing.assert_close(writes, torch.stack(expected[2]))


@torch.no_grad()
def test_small_changes_of_coefficients_survive_bfloat16():
    module = HyperConnection(tiny_config(hyper_connection_streams=2), sublayer=0)
    module.weight.zero_()
    module.bias.fill_(0.001)  # 1 + 0.001 is 1 in bfloat16
    x = torch.full((2, 1, 32), 512.0).bfloat16()
    x[1] *= -0.5
    entering, mixed, writes = module(x, x)
    assert entering.dtype == mixed.dtype == torch.bfloat16
    torch.testing.assert_close(writes, torch.full((2, 1, 1), 1.001))
