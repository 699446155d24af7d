"""Where a text can be cut so that the tokens of its parts, joined, are the tokens of the whole.

GPT-2 first splits a text by a regular expression into runs of letters, of digits, of blanks and of
everything else (with one space in front), and then merges bytes within a run.
A cut is safe where one run ends whatever follows: in front of a blank that follows no blank, and
where a letter or digit meets punctuation. The rule holds for every script: text without spaces has
punctuation. A single word is never cut.

Source: the pattern of GPT-2's encoder (Radford et al., 2019), as tiktoken compiles it.
"""

import re

BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What `\\s` matches there, in the syntax of a character class; str.isspace has four more."""

_SAFE = re.compile(
    f"(?<=[^{BLANKS}])[{BLANKS}]"  # a run of blanks begins
    r"|(?<=[^\W_])[^\w\s]"  # a word ends at a sign
    r"|(?<=[0-9])[A-Za-z]|(?<=[A-Za-z])[0-9]"
)
_LEADING_BLANKS = re.compile(f"[{BLANKS}]*")
_WINDOW = 1024


def leading_blanks(text: str) -> int:
    """Number of blanks that a text begins with."""
    match = _LEADING_BLANKS.match(text)
    return match.end() if match else 0


def last_cut(text: str, start: int, end: int) -> int | None:
    """The last safe cut in a stretch of text.

    Args:
        text: any text.
        start: the cut lies after this.
        end: the cut lies here at the latest.

    Returns:
        Index of the character behind the cut; None if there is no safe cut.
    """
    window, low = _WINDOW, end
    while low > start:
        low = max(start, end - window)
        cuts = [match.start() for match in _SAFE.finditer(text, low + 1, end + 1)]
        if cuts:
            return cuts[-1]
        window *= 16
    return None


def first_cut(text: str, start: int) -> int:
    """The first safe cut from `start` (at least 1) on; the text's length if there is none."""
    match = _SAFE.search(text, start)
    return match.start() if match else len(text)


def last_cut_in_bytes(block: bytes) -> int | None:
    """The last safe cut in UTF-8, which may be invalid or begin and end within a character.

    Returns:
        Offset of the byte behind the cut; None if there is no safe cut.
    """
    size = 4 * _WINDOW
    while True:
        low = max(0, len(block) - size)
        text = block[low:].decode("utf-8", "surrogateescape")
        cut = last_cut(text, 0, len(text) - 1)
        if cut is not None:
            return low + len(text[:cut].encode("utf-8", "surrogateescape"))
        if not low:
            return None
        size *= 16
