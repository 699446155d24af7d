"""Blocks of optimizers' entries that cannot be."""

import pytest

from tests.config.loading import refusal


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("momentum_schedules.ramped.cooldown_fraction=0.9", "must be at most 1, found 0.15 + 0.9"),
        ("polynomials.newton_schulz.coefficients=[1.0]", "polynomials.newton_schulz.coefficients"),
        ("polynomials.polar_express.kind=taylor", "expected 'polar_express', 'newton_schulz'"),
        ("bases.covariances.every_steps=0", "bases.covariances.every_steps: expected"),
    ],
)
def test_a_block_is_checked_in_its_table(override: str, reason: str) -> None:
    assert reason in refusal(override)
