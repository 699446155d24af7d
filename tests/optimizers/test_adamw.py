"""AdamW against torch.optim.AdamW."""

import pytest
import torch

from ramengpt.optimizers.adamw import AdamW
from tests.optimizers.models import gaussian, optimizer_config, scalars


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.65, 0.95), (0.0, 0.5)])
def test_it_is_torchs(beta1: float, beta2: float) -> None:
    config = optimizer_config("adamw", beta1=beta1, beta2=beta2, epsilon=1e-3)
    rule, weight = AdamW(config, compile=False), gaussian(2, 5, 7)
    theirs = torch.nn.Parameter(weight.clone())
    torch_adamw = torch.optim.AdamW(
        [theirs], lr=0.02, betas=(beta1, beta2), eps=1e-3, weight_decay=0.3
    )
    state = rule.new_state(weight)
    for update in range(1, 11):
        gradient = gaussian(2, 5, 7, seed=update)
        theirs.grad = gradient.clone()
        torch_adamw.param_groups[0]["lr"] = 0.02 / update
        torch_adamw.step()
        numbers = scalars(update, 0.01 / update, lr_mul=2.0, weight_decay=0.3)
        rule.step(weight, gradient, state, numbers)
        torch.testing.assert_close(weight, theirs.detach(), rtol=0, atol=1e-14)


def test_its_entry_in_params_is_the_plain_form_with_a_warmup() -> None:
    config = optimizer_config("adamw")
    assert (config.decay_scale, config.cautious_decay) == ("rate", False)
    assert config.warmup_steps > 0
