"""Safe cuts: the tokens of the parts, joined, are tiktoken's tokens of the whole."""

import sys
from unicodedata import category

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ramengpt.data.text.cuts import BLANKS, first_cut, last_cut, last_cut_in_bytes, leading_blanks
from ramengpt.data.text.tokenizer import gpt2_encoding

SIGNS = st.text(alphabet="aяक字é't!_-2²½ \n\t\u3000\x1c\u0301🍜。", max_size=60)


def reference(text: str) -> list[int]:
    return gpt2_encoding().encode_ordinary(text)


@settings(deadline=None, max_examples=500)
@given(text=SIGNS, data=st.data())
@example(text="it's  a_1 ²x\n\n b。字", data=None)
def test_every_cut_keeps_the_tokens(text, data):
    ends = range(1, len(text)) if data is None else [data.draw(st.integers(0, len(text)))]
    for end in ends:
        for cut in (last_cut(text, 0, end), first_cut(text, max(1, end))):
            if cut is not None:
                assert reference(text[:cut]) + reference(text[cut:]) == reference(text)


def test_words_and_blanks_are_those_of_the_pattern():
    """What the regular expression takes for a letter, digit, or blank is one to Unicode too."""
    for number in range(sys.maxunicode + 1):
        sign = chr(number)
        assert (category(sign)[0] in "LN") == sign.isalnum(), hex(number)
        blank = sign.isspace() and sign not in "\x1c\x1d\x1e\x1f"
        assert bool(leading_blanks(sign)) == blank, hex(number)
    assert len(BLANKS) < 25


@pytest.mark.parametrize(
    "unit",
    ["слово ", "слово, ", "字字字。", "คำไทย ", "שלום ", "नमस्ते। ", "0a1b2c", "word\u3000"],
    ids=["cyrillic", "commas", "chinese", "thai", "hebrew", "devanagari", "hex", "wide_blank"],
)
def test_every_script_can_be_cut(unit):
    text = unit * 40
    cut = last_cut(text, 0, len(text) - 1)
    assert cut is not None and cut > len(text) - len(unit) - 2
    assert reference(text[:cut]) + reference(text[cut:]) == reference(text)


@settings(deadline=None, max_examples=300)
@given(text=SIGNS, before=st.binary(max_size=4), cut_off=st.integers(0, 3))
def test_cuts_in_bytes_fall_between_characters(text, before, cut_off):
    content = before + text.encode()
    block = content[: len(content) - cut_off]
    cut = last_cut_in_bytes(block)
    if cut is not None:
        assert 0 < cut < len(block)
        halves = block[:cut].decode("utf-8", "replace") + block[cut:].decode("utf-8", "replace")
        assert halves == block.decode("utf-8", "replace")


def test_no_cut_within_a_word_or_blanks():
    assert last_cut("a" * 5000, 0, 4999) is None
    assert last_cut(" " * 5000, 0, 4999) is None
    assert first_cut("字" * 10, 1) == 10
    assert last_cut_in_bytes("я".encode() * 9000) is None
    assert last_cut_in_bytes(b"") is None
