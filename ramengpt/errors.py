"""The one error that users see: a single line that says what, where, and what to do."""

import sys
from pathlib import Path
from typing import Any

SHOWN_CHARACTERS = 80


class UserError(ValueError):
    """Something the user can fix: bad input, a damaged file, a missing network.

    The message is one line: what is wrong, where, what was expected, what was found, what to do.
    """

    exit_status = 1
    """What a command that ends with this error tells the shell."""


def shown(value: Any) -> str:
    """Write a value that the user gave on one line, as Python does, shortened if it is long."""
    if isinstance(value, int) and value.bit_length() > 256:
        # Python refuses to write integers of more than 4,300 digits.
        return f"an integer of about {round(value.bit_length() * 0.30103):,} digits"
    try:
        return shortened(repr(value))
    except ValueError:  # such an integer inside a list or mapping
        return f"a {type(value).__name__} of {len(value)} values"


def shown_path(path: Path | str) -> str:
    """Write a path in full, since its end says which file is meant; escape what is unprintable."""
    return shortened(str(path), len(str(path)))


def shortened(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """Cut a text for a message, and say how long it was; unprintable characters are escaped."""
    if len(text) > most:
        text = f"{text[:most]}... ({len(text):,} characters)"
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    # A terminal of another encoding must be able to show an error's text.
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return printable.encode(encoding, "backslashreplace").decode(encoding)
