"""The text in a line of JSON, with anything in its other keys."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.text.json_line import text_in_json
from ramengpt.errors import UserError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(others=st.dictionaries(st.text(), VALUES), text=st.text() | st.none(), ascii_=st.booleans())
def test_the_text_is_found_among_anything(others, text, ascii_):
    line = json.dumps({**others, "text": text}, ensure_ascii=ascii_)
    assert text_in_json(line, "text", "a, line 1") == text


@settings(deadline=None, max_examples=300)
@given(line=st.text(max_size=60) | st.text(alphabet='{}[]":,\\tex1 ', max_size=40))
def test_anything_else_is_one_line(line):
    try:
        text_in_json(line, "text", "a, line 1")
    except UserError as error:
        assert str(error).startswith("a, line 1: ")
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    "other",
    ["1" * 5000, "-" + "9" * 5000, "1e99999", "[" * 90_000 + '"]{' + '"' + "]" * 90_000, "NaN"],
    ids=["huge", "negative", "exponent", "deep", "not a number"],
)
def test_other_keys_that_python_refuses(other):
    line = '{"a": ' + other + ', "text": "kept \\" [", "b": [{"c": {}}]}'
    assert text_in_json(line, "text", "a") == 'kept " ['


def test_a_byte_order_mark_of_a_file_that_was_appended():
    assert text_in_json('\ufeff{"text": "x"}', "text", "a") == "x"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[\n", "it opens an array.*jq"),
        ('[{"text": "x"}]', "expected a JSON object with 'text', found an array; is the whole"),
        ("{\n", "must not span several lines"),
        ("null", "found null"),
        ("3", "found a number"),
        ('{"body": "x", "id": 3}', "found keys body, id; set text_field"),
        ('{"text": 3}', "expected a string or null, found a number"),
        ('{"text": ["x"]}', "found an array"),
        ('{"text": "x"', "not valid JSON"),
        ("[" * 90_000, "not valid JSON"),
    ],
    ids=range(10),
)
def test_what_a_line_should_be(line, message):
    with pytest.raises(UserError, match=message):
        text_in_json(line, "text", "a, line 1")
