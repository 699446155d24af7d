"""Parts whose constants cannot be are refused with what is allowed."""

import pytest

from tests.config.loading import refusal


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("activation=tanh", "'relu_squared'"),
        ("hyper_connection_streams=1", "greater than or equal to 2"),
        ("residual_lambda=-1.0", "greater than or equal to 0"),
        ("rope_base=1.0", "greater than 1"),
        ("yarn_high_rotations=1.0", "greater than yarn_low_rotations"),
    ],
)
def test_a_constant_out_of_range_is_refused(change: str, reason: str) -> None:
    message = refusal(f"architectures.speedrun.{change}")
    assert "architectures.speedrun" in message
    assert reason in message
