"""YAML from anywhere: plain values, or one line that says where it is wrong."""

import os
from pathlib import Path

import pytest

from ramengpt.config import ConfigError
from ramengpt.config.parse import MAX_BYTES, MAX_DEPTH, MAX_VALUES, parse_yaml, read_yaml

BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def error_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "file.yaml")
    message = str(caught.value)
    assert message.startswith("file.yaml: ")
    assert "\n" not in message
    assert len(message) < 300
    return message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: 1\nb: [1\n", "not valid YAML in line 3"),
        ("a: 1\na: 2\n", "not valid YAML in line 2"),
        ("a: *b", "undefined alias"),
        ("a: !thing 1", "'!thing'"),
        ("a: !!int x", "not valid YAML"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!float ''", "not valid YAML"),
        ("a: 2020-13-45", "month must be in 1..12"),
        ("a: 2020-01-01T00:00:00+99:00", "not valid YAML"),
        ('a: "\\UFFFFFFFF"', "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("? [[a]]\n: 2", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("[" * 5000, f"at most {MAX_DEPTH} levels"),
        ("a: &x [*x]", f"at most {MAX_DEPTH} levels"),
        (f"a: {'[' * 30}{']' * 30}", f"at most {MAX_DEPTH} levels"),
        ("- " * 5000, f"at most {MAX_DEPTH} levels"),
        (BOMB, f"at most {MAX_VALUES:,} values"),
        ("a: &a {x: 1}\nb:\n  <<: [*a, *a]\n", "merge keys (<<) are not supported"),
        ("a: {<<: *a}", "merge keys (<<) are not supported"),
    ],
    ids=range(20),
)
def test_what_is_no_use_is_one_line(text: str, part: str) -> None:
    assert part in error_of(text)


def test_aliases_stand_for_their_values() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: *x", "here") == {"a": [1, 2], "b": [1, 2]}


def test_small_numbers_are_numbers_with_an_exponent_too() -> None:
    assert parse_yaml("1e-5", "here") == 1e-5


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(ConfigError, match="line 2: expected UTF-8, found the byte 0xe9"):
        read_yaml(path)


def test_a_file_larger_than_any_that_a_person_wrote_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"a: 1\n" * MAX_BYTES)
    with pytest.raises(ConfigError, match=f"expected at most {MAX_BYTES:,} bytes"):
        read_yaml(path)


@pytest.mark.parametrize("text", ["", "- 1", "text", "&a"])
def test_a_file_holds_keys_and_values(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="expected keys and values, found"):
        read_yaml(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(ConfigError, match=r"params\.yaml: cannot be read: Not a regular file"):
        read_yaml(tmp_path / "params.yaml")
