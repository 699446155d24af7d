"""What people have lying in a folder: read right, left out by rule, or refused in one line."""

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ramengpt.config.dataset import TextConfig
from ramengpt.data.sources.text_files import find_text
from ramengpt.data.text.token_stream import encode_batch, read_batches
from ramengpt.data.text.tokenizer import gpt2_encoding
from ramengpt.errors import UserError

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 12345\n"


def lines(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def parquet(**columns: object) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.txt", "x")
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return content.getvalue()


def documents(root: Path, pattern: str = "**/*", separator: str = "") -> tuple[list[str], list]:
    """The texts that are found below a folder, and what is left out."""
    config = TextConfig(
        kind="text",
        name="odd",
        paths=[pattern],
        text_field="text",
        document_separator=separator,
        val_tokens=2,
        shard_tokens=2,
    )
    found = find_text(config, root)
    batches = read_batches(list(found.sources), (0, 0, 0))
    tokens = [token for pair in batches for token in encode_batch(*pair).tokens.tolist()]
    texts = gpt2_encoding().decode(tokens).split("<|endoftext|>")[1:]
    return texts, [(str(entry.path.relative_to(root)), entry.reason) for entry in found.left_out]


NUL = "NUL bytes"
READ: dict[str, tuple[str | bytes, bytes, list[str]]] = {
    "UTF-32": ("a.txt", "héllo".encode("utf-32"), ["héllo"]),
    "UTF-32 BE lines": (
        "a.jsonl",
        b"\0\0\xfe\xff" + lines("x", "y").decode().encode("utf-32-be"),
        ["x", "y"],
    ),
    "UTF-16 in gz": ("a.jsonl.gz", gzip.compress(lines("x").decode().encode("utf-16")), ["x"]),
    "UTF-7 is text": ("a.txt", b"+/v8-hi", ["+/v8-hi"]),
    "Latin-1": ("a.txt", "é".encode("latin-1"), ["\ufffd"]),
    "two marks": ("a.txt", b"\xef\xbb\xbf\xef\xbb\xbfhi", ["\ufeffhi"]),
    "a mark alone": ("a.jsonl", b"\xef\xbb\xbf", []),
    "overlong UTF-8": ("a.txt", b"\xc0\x80a", ["\ufffd\ufffda"]),
    "noncharacters": ("a.txt", "\ufffe\U0010ffff".encode(), ["\ufffe\U0010ffff"]),
    "gz filled up": ("a.jsonl.gz", gzip.compress(lines("x")) + bytes(64), ["x"]),
    "two gz members": (
        "a.jsonl.gz",
        gzip.compress(lines("x")) + gzip.compress(lines("y")),
        ["x", "y"],
    ),
    "two xz streams": (
        "a.jsonl.xz",
        lzma.compress(lines("x")) + bytes(8) + lzma.compress(lines("y")),
        ["x", "y"],
    ),
    "zst with a skippable frame": (
        "a.jsonl.zst",
        b"\x50\x2a\x4d\x18\4\0\0\0abcd" + zstandard.compress(lines("x")),
        ["x"],
    ),
    "lzma named xz": ("a.jsonl.xz", lzma.compress(lines("x"), lzma.FORMAT_ALONE), ["x"]),
    "endings in capitals": ("A.JSONL.GZ", gzip.compress(lines("x")), ["x"]),
    "sixty folders": ("/".join(["d"] * 60) + "/a.txt", b"deep", ["deep"]),
    "a line feed in the name": ("a\nb.txt", b"x", ["x"]),
    "no UTF-8 in the name": (b"a\xff.txt", b"x", ["x"]),
    "a name of 255 bytes": ("n" * 251 + ".txt", b"x", ["x"]),
    "wildcards in the name": ("a[1]*?.txt", b"x", ["x"]),
    "an empty file": ("a.txt", b"", []),
    "a file of blanks": ("a.txt", b"  \n ", ["  \n "]),
    "CRLF text": ("a.txt", b"a\r\nb\r\n", ["a\r\nb\r\n"]),
    "CRLF lines": ("a.jsonl", lines("x", "y").replace(b"\n", b"\r\n"), ["x", "y"]),
    "blank lines of other blanks": (
        "a.jsonl",
        lines("x") + b"\x0b\n\x0c\n" + lines("y"),
        ["x", "y"],
    ),
    "no last line feed": ("a.jsonl", lines("x").rstrip(), ["x"]),
    "a line separator in a string": ("a.jsonl", '{"text":"a\u2028b"}'.encode(), ["a\u2028b"]),
    "an escaped NUL": ("a.jsonl", rb'{"text": "a\u0000b"}', ["a\0b"]),
    "a key twice": ("a.jsonl", b'{"text":"a","text":"b"}', ["b"]),
    "NaN in another key": ("a.jsonl", b'{"text":"a","n":NaN}', ["a"]),
    "no row groups": ("a.parquet", parquet(text=pa.array([], pa.string())), []),
}
REFUSED: dict[str, tuple[str | bytes, bytes, str]] = {
    "UTF-16 without a mark": ("a.jsonl", lines("x").decode().encode("utf-16-le"), NUL),
    "a NUL in text": ("a.txt", b"a\0b", NUL),
    "a NUL in a line": ("a.jsonl", b'{"text": "a\0b"}', NUL),
    "bz2": ("a.jsonl.bz2", bz2.compress(lines("x")), "expected one of"),
    "txt.gz": ("a.txt.gz", gzip.compress(b"x"), "expected one of"),
    "tar": ("a.tar", tarred(), "expected one of"),
    "README": ("README.md", b"x", "expected one of"),
    "zip named txt": ("a.txt", zipped(), "it is zip, not text"),
    "tar named jsonl": ("a.jsonl", tarred(), NUL),
    "gz named jsonl": ("a.jsonl", gzip.compress(lines("x")), "it is gzip, not text"),
    "bz2 named txt": ("a.txt", bz2.compress(b"x" * 99), "it is bzip2, not text"),
    "gz in gz": ("a.jsonl.gz", gzip.compress(gzip.compress(lines("x"))), "it is gzip"),
    "Parquet named jsonl": ("a.jsonl", parquet(text=["x"]), "it is Parquet, not text"),
    "PDF named txt": ("a.txt", b"%PDF-1.7 ...", "it is PDF, not text"),
    "RTF named txt": ("a.txt", rb"{\rtf1\ansi x}", "it is RTF, not text"),
    "a pointer in place of text": ("a.txt", LFS_POINTER, "it is a Git LFS pointer.*git lfs pull"),
    "a pointer in place of lines": ("a.jsonl", LFS_POINTER, "it is a Git LFS pointer"),
    "zeros named gz": ("a.jsonl.gz", bytes(99), "damaged or cut short"),
    "zeros in front of gz": ("a.jsonl.gz", bytes(9) + gzip.compress(lines("x")), "damaged or cut"),
    "an endless array as the text": (
        "a.jsonl",
        b'{"text":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        "expected a string or null, found an array",
    ),
    "lines named Parquet": ("a.parquet", lines("x"), r"not a whole \.parquet"),
    "zst named gz": ("a.jsonl.gz", zstandard.compress(lines("x")), "damaged or cut short"),
    "an empty gz": ("a.jsonl.gz", b"", "it is empty"),
    "an empty Parquet file": ("a.parquet", b"", r"not a whole \.parquet"),
    "CR lines": ("a.jsonl", lines("x", "y").replace(b"\n", b"\r"), "carriage returns alone"),
    "a trailing comma": ("a.jsonl", b'{"text":"a",}', "line 1: not valid JSON"),
    "two objects in a line": ("a.jsonl", b'{"text":"a"}{"text":"b"}', "Extra data"),
    "a comment": ("a.jsonl", b"# x\n", "line 1: not valid JSON"),
    "a key of 100 kB": ("a.jsonl", json.dumps({"k" * 100_000: 1}).encode(), r"k\.\.\. \(100,000"),
    "control characters in a key": ("a.jsonl", rb'{"a\n\u001b[31m":1}', r"a\\n\\x1b\[31m"),
    "a bad line in a file named oddly": (b"a\xff\n.jsonl", b"{", r"a\\udcff\\n\.jsonl, line 1"),
    "numbers": ("a.parquet", parquet(text=[1, 2]), "found int64"),
    "no columns": ("a.parquet", parquet(), "no column 'text'.*one of none"),
    "a column in capitals": ("a.parquet", parquet(Text=["x"]), "no column 'text'.*one of Text"),
    "a column of structs": ("a.parquet", parquet(text=[{"text": "x"}]), "found struct"),
    "times": ("a.parquet", parquet(text=pa.array([0], pa.timestamp("s"))), "found timestamp"),
    "3,000 other columns": (
        "a.parquet",
        parquet(**{f"column{number}": [1] for number in range(3000)}),
        r"characters\)",
    ),
    "a line feed in a column's name": ("a.parquet", parquet(**{"a\nb": [1]}), r"one of a\\nb"),
}
for _ending, _compress in (
    ("gz", gzip.compress),
    ("xz", lzma.compress),
    ("zst", zstandard.compress),
):
    _name, _content = f"a.jsonl.{_ending}", _compress(lines("x"))
    REFUSED[f"rubbish after {_ending}"] = (_name, _content + b"rubbish", "damaged or cut short")


def put(root: Path, name: str | bytes, content: bytes) -> None:
    path = root / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("case", READ)
def test_is_read(tmp_path: Path, case: str) -> None:
    name, content, expected = READ[case]
    put(tmp_path, name, content)
    assert documents(tmp_path) == (expected, [])


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    name, content, message = REFUSED[case]
    put(tmp_path, name, content)
    with pytest.raises(UserError, match=message) as caught:
        documents(tmp_path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="several columns 'text'"):
        documents(tmp_path)


@pytest.mark.parametrize(
    ("content", "separator", "expected"),
    [
        (b"a\r\n---\r\nb", "---", ["a\r\n", "b"]),
        (b"---\na\n---\n---\nb\n---", "---", ["a\n", "b\n"]),
        (b"a<|endoftext|>b<|endoftext|>\n\nc", "<|endoftext|>", ["a", "b", "\nc"]),
        ("a\n---\nb".encode("utf-16"), "---", ["a\n", "b"]),
    ],
    ids=range(4),
)
def test_separators(tmp_path: Path, content: bytes, separator: str, expected: list[str]) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert documents(tmp_path, separator=separator)[0] == expected


def circle(root: Path) -> None:
    (root / "b").symlink_to(root / "c")
    (root / "c").symlink_to(root / "b")
    (root / "l.txt").symlink_to(root / "l.txt")


def folder_in_itself(root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "up").symlink_to(root)


def devices(root: Path) -> None:
    os.mkfifo(root / "f.txt")
    (root / "z.txt").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(root / "s.txt"))  # a socket's path has at most 107 bytes


CIRCLE = "a link in a circle of links"
IRREGULAR = "not a regular file"


@pytest.mark.parametrize(
    ("make", "left_out"),
    [
        (circle, [("b", CIRCLE), ("c", CIRCLE), ("l.txt", CIRCLE)]),
        (folder_in_itself, [("d/up", "a further name of a folder that is read")]),
        (devices, [("f.txt", IRREGULAR), ("s.txt", IRREGULAR), ("z.txt", IRREGULAR)]),
    ],
    ids=["circles of links", "a folder in itself", "devices"],
)
def test_is_left_out_and_said_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    left_out: list[tuple[str, str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    assert documents(tmp_path) == (["x"], left_out)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("l.txt", f"'l.txt' is {CIRCLE}"),
        ("f.txt", f"'f.txt' is {IRREGULAR}"),
        ("d", r"'d' is a folder; write 'd/\*\*/\*'"),
        ("missing.txt", "matches no file"),
        ("x" * 4000, r"xxx\.\.\. \(4,002 characters\) matches no file"),
    ],
    ids=["circle", "pipe", "folder", "missing", "long"],
)
def test_what_a_name_without_wildcards_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    circle(tmp_path)
    devices(tmp_path)
    folder_in_itself(tmp_path)
    with pytest.raises(UserError, match=message):
        documents(tmp_path, pattern)
