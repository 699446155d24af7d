"""The one line about a wrong value."""

from typing import Literal

import pytest
from pydantic import Field, ValidationError

from ramengpt.config.base import Section
from ramengpt.config.messages import MOST_CHARACTERS, describe, keys_in_file, nearest


class Inner(Section):
    count: int = Field(ge=1, le=9)
    name: str = Field(pattern="^[a-z]+$")
    some: list[int] = Field(min_length=1)
    kind: Literal["a", "b"]


RIGHT = {"count": 1, "name": "a", "some": [1], "kind": "a"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"count": 10}, "count: expected less than or equal to 9, found 10"),
        ({"count": "1"}, "count: expected integer, found '1' (a string; write numbers without"),
        ({"name": "A"}, "name: expected text that matches '^[a-z]+$', found 'A'"),
        ({"some": []}, "some: expected at least 1 item, found []"),
        ({"kind": "c"}, "kind: expected 'a' or 'b', found 'c'"),
        ({"knid": "c"}, "knid: unknown key; did you mean 'kind'?"),
        ({"name": "B" * 10**6}, "(1,000,002 characters)"),
    ],
    ids=range(7),
)
def test_a_wrong_value_is_one_line(change: dict[str, object], line: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Inner.model_validate(RIGHT | change)
    (detail,) = caught.value.errors()
    said = describe(keys_in_file(detail["loc"], RIGHT | change), [detail])
    assert line in said
    assert len(said) < 2 * MOST_CHARACTERS


def test_the_nearest_name_or_all_of_them() -> None:
    assert nearest("optimizers.", "adm", ["adam", "bam"]) == "; did you mean 'optimizers.adam'?"
    assert nearest("", "xyz", ["adam", 3]) == "; choose one of: 3, adam"  # type: ignore[list-item]
    assert nearest("", "xyz", []) == ""


def test_tags_of_unions_are_no_keys() -> None:
    raw = {"datasets": {"mine": {"kind": "text", "paths": [1]}}}
    location = ("datasets", "mine", "text", "paths", 0)
    assert keys_in_file(location, raw) == ["datasets", "mine", "paths", 0]
