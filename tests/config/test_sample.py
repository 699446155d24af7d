"""What a trained model is asked to continue."""

import pytest
from pydantic import ValidationError

from ramengpt.config.sample import SampleConfig

GOOD = {"prompts": ["Once"], "new_tokens": 5, "temperature": 0.0, "top_k": 0, "seed": 0}


def test_the_smallest_values_are_allowed() -> None:
    assert SampleConfig.model_validate(GOOD).prompts == ["Once"]


@pytest.mark.parametrize(
    "changes",
    [
        {"prompts": []},
        {"prompts": ["Once", " \n"]},
        {"new_tokens": 0},
        {"temperature": -0.1},
        {"top_k": -1},
        {"seed": -1},
    ],
)
def test_a_value_out_of_range_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        SampleConfig.model_validate(GOOD | changes)
