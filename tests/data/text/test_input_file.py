"""Files as UTF-8: compression, byte-order marks, and files that are not what they were."""

import codecs
import gzip
import lzma
import os

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.text.input_file import InputFile
from ramengpt.errors import UserError

TEXT = "first line\nzweite Zeile: äöü, 字, 🍜\n" * 30
COMPRESS = {
    "": bytes,
    ".gz": lambda content: gzip.compress(content, mtime=0),
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def content_of(path) -> bytes:
    with InputFile.at(path).opened() as stream:
        return stream.read()


def write(folder, suffix: str, content: bytes):
    path = folder / f"a.jsonl{suffix}"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_byte_order_marks(tmp_path, suffix, encoding):
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    path = write(tmp_path, suffix.upper(), COMPRESS[suffix](mark + TEXT.encode(encoding)))
    assert content_of(path) == TEXT.encode()


@pytest.mark.parametrize("content", [b"", b"\xef", b"\xef\xbb\xbf", b"x", b"\xff\xfe"])
def test_very_short_files(tmp_path, content):
    expected = content if content in {b"", b"\xef", b"x"} else b""
    assert content_of(write(tmp_path, "", content)) == expected


def test_what_is_no_utf_16_is_marked_or_refused(tmp_path):
    lone = codecs.BOM_UTF16_LE + "ab".encode("utf-16-le") + b"\x00\xd8" + "c".encode("utf-16-le")
    assert content_of(write(tmp_path, "", lone)) == b"ab\xffc"
    with pytest.raises(UserError, match=r"cut short .it ends within a character of UTF-16-LE"):
        content_of(write(tmp_path, "", lone[:-1]))


def test_numbers_beyond_unicode_are_marked(tmp_path):
    start = codecs.BOM_UTF32_LE + "a".encode("utf-32-le")
    for number in (0x110000, 0x7FFFFFFF, 0xD800):
        content = start + number.to_bytes(4, "little") + "b".encode("utf-32-le")
        assert content_of(write(tmp_path, "", content)) == b"a\xffb"
        with pytest.raises(UserError, match="ends within a character of UTF-32-LE"):
            content_of(write(tmp_path, "", content[:-1]))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_cut_anywhere_is_noticed(tmp_path, suffix):
    whole = COMPRESS[suffix](TEXT.encode())
    for end in range(len(whole)):
        with pytest.raises(UserError, match=r"a\.jsonl.*: damaged or cut short") as caught:
            content_of(write(tmp_path, suffix, whole[:end]))
        assert "\n" not in str(caught.value)


def test_zstd_frames(tmp_path):
    frames = [zstandard.compress(part) for part in (b"one\n", b"", b"two\n")]
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
    whole = b"".join([frames[0], skippable, *frames[1:]])
    assert content_of(write(tmp_path, ".zst", whole)) == b"one\ntwo\n"
    second = len(frames[0]) + len(skippable) + len(frames[1])
    for end in range(second + 1, len(whole)):
        with pytest.raises(UserError, match="cut short"):
            content_of(write(tmp_path, ".zst", whole[:end]))


@settings(deadline=None, max_examples=150)
@given(data=st.data(), suffix=st.sampled_from([".gz", ".xz", ".zst"]))
def test_damage_is_an_error_or_harmless(tmp_path_factory, data, suffix):
    whole = bytearray(COMPRESS[suffix](TEXT.encode()))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = write(tmp_path_factory.mktemp("damage"), suffix, bytes(whole))
    try:
        content_of(path)
    except UserError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


def test_files_that_change(tmp_path):
    path = write(tmp_path, "", b"one\n")
    file = InputFile.at(path)
    with pytest.raises(UserError, match=r"changed while it was read .4 -> 8 bytes"), file.opened():
        path.write_bytes(b"one\ntwo\n")
    file = InputFile.at(path)
    os.utime(path, ns=(5, 5))
    with pytest.raises(UserError, match=r"changed while it was read .modified"):
        file.check_unchanged()
    path.unlink()
    for act in (file.check_unchanged, file.opened().__enter__, lambda: InputFile.at(path)):
        with pytest.raises(UserError, match="vanished after it was listed"):
            act()


def test_what_is_no_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read .Is a directory"):
        content_of(tmp_path)
