"""Schedules that cannot be are refused, by what they would do."""

import pytest
from pydantic import ValidationError

from ramengpt.config import load_config
from ramengpt.config.schedule import ScheduleConfig
from tests.conftest import ROOT

BASE = load_config(["schedule=base"], ROOT / "params.yaml").schedule.model_dump()


def schedule(section: str | None = None, **changes: object) -> ScheduleConfig:
    values = {**BASE, section: {**BASE[section], **changes}} if section else {**BASE, **changes}
    return ScheduleConfig.model_validate(values)


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("batch", {"fractions": [0.0, 0.5]}, "same length"),
        ("batch", {"fractions": [], "micro_batches": []}, "at least 1"),
        ("window", {"fractions": [0.1, 0.5]}, "start at 0"),
        ("window", {"fractions": [0.0, 0.0]}, "increase"),
        ("window", {"tokens": [384, 500]}, "multiple of 128"),
        ("window", {"validation_tokens": 500}, "multiple of 128"),
        ("learning_rate", {"cooldown_shape": "exponential", "floor": 0.0}, "above 0"),
        ("learning_rate", {"warmup_steps": 300}, "fit into scheduled_steps"),
        (None, {"micro_batch_tokens": 131000}, "multiple of 128"),
        (None, {"micro_batch_tokens": 256}, "longest sequence, 512"),
    ],
)
def test_an_impossible_schedule_is_an_error_that_says_why(section, changes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        schedule(section, **changes)


def test_limits_themselves_are_allowed() -> None:
    longest = max(BASE["sequence"]["tokens"])
    assert schedule(micro_batch_tokens=longest).micro_batch_tokens == longest
    cooldown_steps = round(BASE["learning_rate"]["cooldown_fraction"] * BASE["scheduled_steps"])
    warmup_steps = BASE["scheduled_steps"] - cooldown_steps
    assert schedule("learning_rate", warmup_steps=warmup_steps)
    assert schedule("learning_rate", cooldown_shape="exponential", floor=0.1)
