import os
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.shards.format import (
    ShardError,
    ShardHeader,
    ShardWriter,
    inspect_shard,
    open_shard,
    read_header,
    shard_filename,
)
from tests.data.make_shards import parse_shard, shard_bytes

token_lists = st.lists(st.integers(0, 50256), min_size=1, max_size=200)


@given(tokens=token_lists, cuts=st.lists(st.integers(0, 200), max_size=4))
@settings(deadline=None, max_examples=50)
def test_what_the_writer_writes_is_the_published_format(tmp_path_factory, tokens, cuts):
    path = tmp_path_factory.mktemp("shard") / "x.bin"
    edges = [0, *sorted(min(cut, len(tokens)) for cut in cuts), len(tokens)]
    with ShardWriter(path) as writer:
        for start, end in pairwise(edges):
            writer.write(np.array(tokens[start:end], dtype=np.uint16))
        assert writer.num_tokens == len(tokens)
    assert path.read_bytes() == shard_bytes(tokens)
    assert parse_shard(path.read_bytes()) == tokens


@given(tokens=token_lists)
@settings(deadline=None, max_examples=50)
def test_what_others_write_is_read(tmp_path_factory, tokens):
    path = tmp_path_factory.mktemp("shard") / "x.bin"
    path.write_bytes(shard_bytes(tokens))
    assert read_header(path) == ShardHeader(20240520, 1, len(tokens))
    found = open_shard(path)
    assert found.dtype == np.dtype("<u2") and found.tolist() == tokens
    assert not found.flags.writeable


def test_a_big_endian_array_is_written_little_endian(tmp_path):
    with ShardWriter(tmp_path / "x.bin") as writer:
        writer.write(np.array([50256, 1, 258], dtype=">u2").astype(np.uint16))
        with pytest.raises(ValueError, match="expected uint16"):
            writer.write(np.array([1], dtype=">u2"))
    assert parse_shard((tmp_path / "x.bin").read_bytes()) == [50256, 1, 258]


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path / "x.bin") as writer:
        writer.write(np.array([50256], dtype=np.uint16))
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="at least 1, found 0"), ShardWriter(tmp_path / "x.bin"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "tokens",
    [np.array([1, 2]), np.array([[1]], dtype=np.uint16), np.array([50257], dtype=np.uint16)],
    ids=["int64", "two dimensions", "out of range"],
)
def test_the_writer_refuses_what_is_no_token(tmp_path, tokens):
    with (
        pytest.raises(ValueError, match=r"x\.bin: token"),
        ShardWriter(tmp_path / "x.bin") as writer,
    ):
        writer.write(tokens)
    assert list(tmp_path.iterdir()) == []


GOOD = shard_bytes([50256, 1, 2, 3])
FAULTS = {
    "empty": (b"", "header: expected 1024 bytes, found 0 bytes"),
    "half a header": (GOOD[:500], "header: expected 1024 bytes, found 500 bytes"),
    "magic": (shard_bytes([1], [7, 1, 1]), "magic (byte 0): expected 20240520, found 7"),
    "version 2": (shard_bytes([1], [20240520, 2, 1]), "version (byte 4): expected 1, found 2"),
    "no tokens": (shard_bytes([]), "number of tokens (byte 8): expected at least 1, found 0"),
    "negative": (shard_bytes([1], [20240520, 1, -5]), "(byte 8): expected at least 1, found -5"),
    "reserved": (
        shard_bytes([1], [20240520, 1, 1, 0, 9]),
        "integer 4 (byte 16): expected 0, found 9",
    ),
    "big-endian": (shard_bytes([1], order=">"), "the header is big-endian"),
    "truncated": (
        GOOD[:-1],
        "file size: expected 1032 bytes for 4 tokens, found 1031 bytes (trunc",
    ),
    "grown": (
        GOOD + b"\0\0",
        "file size: expected 1032 bytes for 4 tokens, found 1034 bytes (grown",
    ),
    "count": (
        shard_bytes([50256, 1, 2, 3], [20240520, 1, 5]),
        "file size: expected 1034 bytes for 5 tokens, found 1032 bytes",
    ),
}


@pytest.mark.parametrize("content,message", FAULTS.values(), ids=list(FAULTS))
def test_a_bad_shard_is_named_with_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "x_train_000001.bin"
    path.write_bytes(content)
    for read in (read_header, open_shard):
        with pytest.raises(ShardError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
        assert "--redownload x_train_000001.bin" in str(caught.value)
    assert path.read_bytes() == content


def test_all_faults_of_a_header_are_reported(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(shard_bytes([1], [20240520, 3, 0, 0, 1]))
    _, faults = inspect_shard(path)
    assert [fault.found for fault in faults] == ["3", "0", "1"]


@pytest.mark.parametrize("position", range(0, 1024, 41))
@pytest.mark.parametrize("bit", [0, 7])
def test_every_flipped_header_bit_is_caught(tmp_path, position, bit):
    content = bytearray(GOOD)
    content[position] ^= 1 << bit
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    with pytest.raises(ShardError):
        read_header(path)


def test_links(tmp_path):
    good, alias = tmp_path / "good.bin", tmp_path / "alias.bin"
    good.write_bytes(GOOD)
    alias.symlink_to(good)
    assert open_shard(alias).tolist() == [50256, 1, 2, 3]
    dangling, loop, folder = tmp_path / "dangling.bin", tmp_path / "loop.bin", tmp_path / "dir.bin"
    dangling.symlink_to(tmp_path / "nowhere")
    loop.symlink_to(loop)
    folder.symlink_to(tmp_path)
    for link in (dangling, loop, folder):
        with pytest.raises(
            ShardError, match=f"{link.name}: file: .* symbolic link to {link.readlink()}"
        ):
            read_header(link)


def test_a_shard_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        ShardError, match=r"x.bin: file: expected a readable shard, found Permission"
    ):
        read_header(tmp_path / "x.bin")


def test_names():
    assert shard_filename("fineweb", "val", 0) == "fineweb_val_000000.bin"
    assert shard_filename("fineweb", "train", 1030) == "fineweb_train_001030.bin"
    for arguments in [("a/b", "val", 0), ("", "val", 0), ("a", "test", 0), ("a", "val", 10**6)]:
        with pytest.raises(ValueError, match="expected"):
            shard_filename(*arguments)


@given(
    tokens=token_lists,
    place=st.integers(0, 1500),
    new=st.binary(min_size=1, max_size=60),
    cut=st.booleans(),
)
@settings(deadline=None, max_examples=400)
def test_any_bytes_are_a_shard_or_refused_in_one_line_each(
    tmp_path_factory, tokens, place, new, cut
):
    path = tmp_path_factory.getbasetemp() / "fuzzed.bin"
    good = shard_bytes(tokens)
    bad = good[:place] + new + (b"" if cut else good[place + len(new) :])
    path.write_bytes(bad)
    try:
        found = open_shard(path).tolist()
    except ShardError as error:
        assert len(str(error).splitlines()) == len(error.faults) > 0
        assert all(line.startswith(f"{path}: ") for line in str(error).splitlines())
    else:
        assert parse_shard(bad) == found
