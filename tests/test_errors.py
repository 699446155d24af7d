"""Values in messages: on one line, short, whatever they are."""

import io
import sys

import pytest

from ramengpt.errors import SHOWN_CHARACTERS, shortened, shown


def test_a_short_value_is_shown_as_python_writes_it() -> None:
    assert shown("adam") == "'adam'"
    assert shown(1.5) == "1.5"
    assert shown([1, 2]) == "[1, 2]"


def test_a_long_value_is_cut_and_its_length_is_given() -> None:
    text = shown("x" * 200_000)
    assert len(text) < SHOWN_CHARACTERS + 40
    assert "200,002 characters" in text


@pytest.mark.parametrize("value", [10**5000, [10**5000], {"key": 10**5000}], ids=type)
def test_an_integer_that_python_will_not_write_is_described(value: object) -> None:
    assert 5 < len(shown(value)) < 60


def test_control_characters_cannot_reach_a_terminal() -> None:
    assert shortened("a\x1b[31m\nb\x00") == "a\\x1b[31m\\nb\\x00"


def test_what_the_terminal_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert shortened("naïve") == "na\\xefve"
    assert shortened("\ud800") == "\\ud800"
