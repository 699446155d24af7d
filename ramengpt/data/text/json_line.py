"""The text in a line of JSON, whatever its other keys hold."""

import json
import re
from typing import Any

from ramengpt.errors import UserError, shortened

MOST_CHARACTERS = 300
"""Of a list of keys in a message."""
_KINDS = {
    str: "a string",
    bool: "true or false",
    float: "a number",
    dict: "an object",
    list: "an array",
    type(None): "null",
}
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]')


def text_in_json(line: str, field: str, place: str) -> str | None:
    """Take the text under a key.

    Args:
        line: one line of a .jsonl file.
        field: the key.
        place: file and line, for messages.

    Returns:
        The text; None for a null.

    Raises:
        UserError: the line is no JSON object, or holds no text under that key.
    """
    content = _parsed(line.removeprefix("\ufeff"), place)
    if not isinstance(content, dict):
        array = "; is the whole file one array? `jq -c '.[]'` makes lines of it"
        raise UserError(
            f"{place}: expected a JSON object with {field!r}, found {_KINDS[type(content)]}"
            + (array if isinstance(content, list) else "")
        )
    if field not in content:
        keys = shortened(", ".join(content), MOST_CHARACTERS)
        raise UserError(
            f"{place}: expected an object with {field!r}, found keys {keys}; set text_field"
        )
    value = content[field]
    if value is not None and not isinstance(value, str):
        raise UserError(
            f"{place}: {field!r}: expected a string or null, found {_KINDS[type(value)]}; set "
            "text_field to another key"
        )
    return value


def _parsed(line: str, place: str) -> Any:
    """Parse a line. Integers become floats, since Python refuses those of 4,300 digits."""
    try:
        try:
            return json.loads(line, parse_int=float)
        except RecursionError:
            return json.loads(_without_nested(line), parse_int=float)
    except (ValueError, RecursionError) as error:
        if line.strip() == "[":
            hint = "it opens an array, and a line should hold one object; `jq -c '.[]'` makes lines"
        elif "\0" in line:
            hint = "it holds NUL bytes, so it is binary or UTF-16 without a mark; save it as UTF-8"
        elif "\r" in line.strip():
            hint = "its lines end in carriage returns alone; end them in line feeds"
        elif line.strip() == "{":
            hint = "an object must not span several lines; `jq -c .` puts it on one"
        else:
            hint = f"{error}; fix or remove the line"
        raise UserError(f"{place}: not valid JSON ({hint})") from None


def _without_nested(line: str) -> str:
    """Empty what is nested within the outermost object or array, however deep it is."""
    parts, kept, depth = [], 0, 0
    for match in _STRING_OR_BRACKET.finditer(line):
        bracket = match.group()
        if bracket in ("{", "["):
            depth += 1
            if depth == 2:
                parts.append(line[kept : match.start()])
        elif bracket in ("}", "]"):
            depth -= 1
            if depth == 1:
                parts.append("{}" if bracket == "}" else "[]")
                kept = match.end()
    return "".join([*parts, line[kept:]])
