"""Every form of decay against its equation, in float64, in every rule that decays."""

import pytest
import torch

from ramengpt.optimizers.rules import make_rule
from tests.optimizers.models import OPTIMIZERS, gaussian, optimizer_config, scalars

DECAYING = [name for name in OPTIMIZERS if hasattr(optimizer_config(name), "cautious_decay")]
ADAMS = {"adam"}
FORMS = [(scale, cautious) for scale in ("rate", "rate_squared") for cautious in (False, True)]


def stepped(name: str, weight_decay: float, learning_rate: float = 0.02, **form) -> torch.Tensor:
    """Weights after a second step (SOAP's first sets its bases); the first has a rate of 0."""
    rule, weight = make_rule(optimizer_config(name, **form), compile=False), gaussian(2, 8, 8)
    state = rule.new_state(weight)
    for update, rate in ((1, 0.0), (2, learning_rate)):
        numbers = scalars(update, rate, weight_decay=weight_decay, lr_mul=2.0, wd_mul=3.0)
        rule.step(weight, gaussian(2, 8, 8, seed=update), state, numbers)
    return weight


@pytest.mark.parametrize("name", DECAYING)
@pytest.mark.parametrize(("scale", "cautious"), FORMS)
def test_a_step_removes_the_share_that_the_form_says(name: str, scale: str, cautious: bool) -> None:
    form = {"decay_scale": scale, "cautious_decay": cautious}
    start, plain = gaussian(2, 8, 8), stepped(name, 0.0, **form)
    # Adam squares lr_mul too: its whole rate is the product.
    squared = 0.02**2 * (4.0 if name in ADAMS else 2.0)
    share = 0.5 * 3.0 * (0.02 * 2.0 if scale == "rate" else squared)
    decays = ((start - plain) * start > 0).double() if cautious else torch.ones_like(start)
    torch.testing.assert_close(
        stepped(name, 0.5, **form), plain - share * decays * start, rtol=0, atol=1e-14
    )
