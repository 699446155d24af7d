"""YAML text to plain Python values, or one line that says where it is wrong.

Whatever the bytes, the answer comes within two seconds: large files, deep nesting and aliases that
multiply are refused before anything walks over them.
"""

import copy
import functools
import itertools
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from ramengpt.config.base import ConfigError
from ramengpt.errors import shortened
from ramengpt.files import open_regular

MAX_BYTES = 2**16
MAX_DEPTH = 20
MAX_VALUES = 20_000
MAX_OPEN = 200  # brackets, also those inside of text
BRACKETS = {"[": 1, "{": 1, "]": -1, "}": -1}
MERGE_KEY = re.compile(r"(?m)(?:^|[\s{,\[?])<<\s*(?:[:,\]}]|$)")

UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What ruamel.yaml raises beside its own errors, for impossible dates, tags and numbers."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a file of keys and values.

    Raises:
        ConfigError: it is missing, unreadable, too large, no UTF-8 or no YAML of keys and values.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{path}: expected at most {MAX_BYTES:,} bytes, found more")
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: not found in {Path.cwd()}; run this from the project's folder"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}: line {line}: expected UTF-8, found the byte 0x{content[error.start]:02x}; "
            "save the file as UTF-8"
        ) from None
    raw = copy.deepcopy(_parsed(text, str(path)))
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(raw).__name__}")
    return raw


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document into dicts, lists and scalars.

    Args:
        text: the document.
        where: begins the message of an error.

    Raises:
        ConfigError: no valid YAML, or nested or multiplied beyond all use.
    """
    # Both take the parser minutes where there are enough of them.
    if (
        max(itertools.accumulate(map(BRACKETS.get, text, itertools.repeat(0))), default=0)
        > MAX_OPEN
    ):
        raise _too_deep(where)
    if MERGE_KEY.search(text):
        raise ConfigError(f"{where}: merge keys (<<) are not supported; write the values out")
    try:
        raw = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = shortened(" ".join(str(error.problem or error.context).split()))
        raise ConfigError(f"{where}: not valid YAML{place}: {problem}") from None
    except (YAMLError, *UNREADABLE) as error:
        problem = shortened(" ".join(str(error).split()))
        raise ConfigError(f"{where}: not valid YAML: {problem}") from None
    except RecursionError:
        raise _too_deep(where) from None
    _check_size(raw, where)
    return raw


_parsed = functools.lru_cache(maxsize=1)(parse_yaml)
"""A run reads params.yaml several times, and parsing it takes most of each."""


def _check_size(raw: Any, where: str) -> None:
    """Count every value as often as it stands, those of aliases too.

    Raises:
        ConfigError: too many values or levels; an alias within itself has no end of levels.
    """
    waiting = [(raw, 0)]
    values = 0
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if depth > MAX_DEPTH:
            raise _too_deep(where)
        if values > MAX_VALUES:
            raise ConfigError(
                f"{where}: expected at most {MAX_VALUES:,} values, found more (aliases count too)"
            )
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple, set)):
            waiting += [(part, depth + 1) for part in value]


def _too_deep(where: str) -> ConfigError:
    return ConfigError(f"{where}: nested too deeply; expected at most {MAX_DEPTH} levels")
