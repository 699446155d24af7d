"""A number that is not finite is named; finite ones are not."""

import pytest
import torch

from ramengpt.training.divergence import not_finite_in_row, not_finite_in_state

INFINITE = float("inf")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"loss": 2.0, "gradient_norm_hidden": 1.0, "mfu": INFINITE}, ""),
        (
            {"loss": 2.0, "gradient_norm_hidden": INFINITE},
            "the train loss is 2 (gradient_norm_hidden: inf)",
        ),
        ({"loss": -INFINITE}, "the train loss is -inf (measured on held-out text)"),
    ],
)
def test_a_row(row: dict[str, float], said: str) -> None:
    assert not_finite_in_row("train", row) == said


def test_a_state() -> None:
    bad = torch.tensor([1.0, float("nan")])
    state = {"model": {"a": torch.ones(2)}, "step": torch.tensor(3), "rest": [(), {"b": bad}]}
    assert not_finite_in_state(state) == "rest.1.b holds a value that is not finite"
    bad.zero_()
    assert not_finite_in_state(state) == not_finite_in_state({}) == ""
