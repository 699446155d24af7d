"""The section hooks: what is refused."""

import pytest

from tests.config.loading import refusal


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("hooks.ema_nesterov.start_fraction=0.9", "start_fraction must be at most end_fraction"),
        ("hooks.ema_nesterov.decay=1", "hooks.ema_nesterov.decay: expected less than 1, found 1"),
        ("hooks.outer_step.every_steps=-1", "hooks.outer_step.every_steps: expected greater than"),
        ("hooks.evaluation_average.share=2", "hooks.evaluation_average.share: expected less than"),
        ("hooks.evaluation_average.horizon_fraction=0", "expected greater than 0, found 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(override: str, line: str) -> None:
    assert line in refusal(override)
