"""Error messages for values of params.yaml: one line, what was expected, what was found."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from ramengpt.config.base import Section
from ramengpt.errors import shortened, shown

MOST_CHARACTERS = 300
"""Longest reason in a line; a longer one is cut."""


def nearest(prefix: str, name: str, known: Iterable[str]) -> str:
    """Propose the known name closest to an unknown one, else list all known names."""
    names = sorted(map(str, known))  # YAML has keys of other types too
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {shown(prefix + near[0])}?"
    listed = shortened(", ".join(names), MOST_CHARACTERS)
    return f"; choose one of: {listed}" if names else ""


def describe(location: Sequence[int | str], details: Sequence[ErrorDetails]) -> str:
    """One line for pydantic's errors at one key: what was expected, what was found.

    There are several errors where a value may have one of several types and has none of them.
    """
    key = ".".join(shortened(str(part)) for part in location)
    detail = details[0]
    found = detail["input"]
    match detail["type"]:
        case "missing":
            return f"{key}: missing"
        case "extra_forbidden":
            near = difflib.get_close_matches(str(location[-1]), all_keys(Section), n=1)
            return f"{key}: unknown key" + (f"; did you mean {shown(near[0])}?" if near else "")
        case "union_tag_invalid":
            tag = detail["ctx"]
            name = tag["discriminator"].strip("'")
            return f"{key}.{name}: expected {tag['expected_tags']}, found {shown(tag['tag'])}"
        case "invalid_key":
            return f"{key}: expected a name as the key, found {shown(found)}"
        case "value_error":
            reason = shortened(str(detail["ctx"]["error"]), MOST_CHARACTERS)
            return f"{key}: {reason}" if key else reason
        case _:
            hint = ""
            if isinstance(found, str) and "valid string" not in detail["msg"]:
                hint = " (a string; write numbers without quotes, small ones as 0.001)"
            expected = " or ".join(dict.fromkeys(_expectation(each["msg"]) for each in details))
            return f"{key}: expected {expected}, found {shown(found)}{hint}"


def _expectation(message: str) -> str:
    """The expectation in one of pydantic's messages."""
    message = re.sub(r"^Input should be (a valid )?|^(String|List|Value) should have ", "", message)
    message = re.sub(r"^String should match pattern", "text that matches", message)
    return shortened(re.sub(r" after validation, not \d+$", "", message), MOST_CHARACTERS)


def keys_in_file(location: tuple[int | str, ...], raw: Any) -> list[int | str]:
    """Remove the tags of unions from pydantic's location: they are not in the file."""
    keys: list[int | str] = []
    for position, part in enumerate(location):
        is_key = isinstance(raw, Mapping) and part in raw
        if is_key or (isinstance(raw, list) and isinstance(part, int)):
            raw = raw[part]
        elif position < len(location) - 1 or not isinstance(raw, Mapping):
            continue
        keys.append(part)
    return keys


def all_keys(section: type[Section]) -> set[str]:
    """Every key that a section, or one derived from it, can have."""
    keys = set(section.model_fields)
    for subclass in section.__subclasses__():
        keys |= all_keys(subclass)
    return keys
