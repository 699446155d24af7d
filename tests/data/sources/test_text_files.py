"""Which files patterns name: hidden and system files, links, endings, other names."""

import os
from pathlib import Path

import pytest

from ramengpt.config.dataset import TextConfig
from ramengpt.data.sources.text_files import find_text
from ramengpt.errors import UserError


def find(root: Path, *patterns: str):
    config = TextConfig(
        kind="text",
        name="text",
        paths=list(patterns or ["text/**/*"]),
        text_field="text",
        document_separator="",
        val_tokens=2,
        shard_tokens=2,
    )
    found = find_text(config, root)
    read = [str(source.file.path.relative_to(root)) for source in found.sources]
    return read, {str(entry.path.relative_to(root)): entry.reason for entry in found.left_out}


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "text").mkdir()
    return tmp_path.resolve()


def test_hidden_and_system_files_are_left_out(root):
    write(root, "text/z.jsonl", "text/.DS_Store", "text/._z.jsonl", "text/.git/a.txt")
    write(root, "text/Thumbs.db", "text/sub/desktop.ini", "text/__MACOSX/z.jsonl", "text/b.txt~")
    read, left_out = find(root)
    assert read == ["text/z.jsonl"]
    assert left_out == {
        "text/.DS_Store": "hidden",
        "text/._z.jsonl": "hidden",
        "text/.git": "hidden",
        "text/Thumbs.db": "left behind by a program",
        "text/__MACOSX": "left behind by a program",
        "text/b.txt~": "left behind by a program",
        "text/sub/desktop.ini": "left behind by a program",
    }
    assert find(root, "text/*.jsonl") == (
        ["text/z.jsonl"],
        {name: left_out[name] for name in ("text/._z.jsonl", "text/.git", "text/__MACOSX")},
    )
    assert find(root, "text/.git/a.txt") == (["text/.git/a.txt"], {})


def test_endings_in_any_case(root):
    write(root, "text/A.JSONL", "text/B.TXT", "text/C.Jsonl.GZ", "text/D.PARQUET")
    assert find(root)[0] == ["text/A.JSONL", "text/B.TXT", "text/C.Jsonl.GZ", "text/D.PARQUET"]


def test_other_endings_are_errors(root):
    write(root, "text/a.txt", "text/notes.md")
    with pytest.raises(UserError, match=r"notes\.md: expected one of \.txt, \.jsonl"):
        find(root)
    assert find(root, "text/*.txt")[0] == ["text/a.txt"]


def test_links_are_followed_once(root):
    write(root, "other/big.txt", "other/deep/small.txt", "text/z.jsonl")
    (root / "text" / "linked").symlink_to(root / "other")
    (root / "text" / "again").symlink_to(root / "other" / "deep")
    (root / "text" / "file.txt").symlink_to(root / "other" / "big.txt")
    (root / "text" / "gone.txt").symlink_to(root / "nowhere")
    (root / "other" / "loop").symlink_to(root / "other")
    (root / "other" / "up").symlink_to(root)
    read, left_out = find(root)
    assert read == [
        "text/again/small.txt",
        "text/file.txt",
        "text/z.jsonl",
    ]
    assert left_out["text/gone.txt"] == "a link to nothing"
    assert left_out["text/linked/big.txt"].startswith("the same file as")
    assert left_out["text/linked/deep"] == "a further name of a folder that is read"
    assert left_out["text/linked/loop"] == "a further name of a folder that is read"


def test_the_same_file_through_two_patterns_is_read_once(root):
    write(root, "text/a.txt", "text/b.txt")
    os.link(root / "text" / "b.txt", root / "text" / "c.txt")
    read, left_out = find(root, "text/*.txt", "text/../text/*.txt", str(root / "text" / "a.txt"))
    assert read == ["text/a.txt", "text/b.txt"]
    assert left_out == {"text/c.txt": f"the same file as {root}/text/b.txt"}


def test_what_is_no_regular_file_is_left_out(root):
    write(root, "text/a.txt")
    os.mkfifo(root / "text" / "pipe.txt")
    assert find(root) == (["text/a.txt"], {"text/pipe.txt": "not a regular file"})


@pytest.mark.parametrize("pattern", ["*.jsonl", "text/a.txt", "none/**/*", "~/no_such_folder/*"])
def test_a_pattern_without_files(root, pattern):
    with pytest.raises(UserError, match=r"matches no file in .*change paths") as caught:
        find(root, pattern)
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("text/**/*.txt", ["a.txt", "x/b.txt", "x/y/c.txt"]),
        ("text/**", ["a.txt", "x/b.txt", "x/y/c.txt"]),
        ("text/*/*.txt", ["x/b.txt"]),
        ("text/[ab].txt", ["a.txt"]),
        ("**/c.txt", ["x/y/c.txt"]),
        ("text/**/y/**/*", ["x/y/c.txt"]),
    ],
    ids=range(6),
)
def test_patterns(root, pattern, expected):
    write(root, "text/a.txt", "text/x/b.txt", "text/x/y/c.txt")
    assert find(root, pattern)[0] == [f"text/{name}" for name in expected]


def test_a_pattern_of_many_stars_is_soon_compared(root):
    """Tried split by split, these take longer than anyone waits."""
    write(root, "text/" + "d/" * 40 + "a.txt")
    with pytest.raises(UserError, match="matches no file"):
        find(root, "text/" + "**/d/" * 12 + "b.txt")
