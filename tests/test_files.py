import os
from pathlib import Path

import pytest

from ramengpt.files import atomic_writer, open_regular, temporary_path, write_bytes
from tests.data.make_shards import open_files


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "file"
    with atomic_writer(path) as file:
        file.write(b"new")
        assert not path.exists() and temporary_path(path).exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), atomic_writer(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_replaced(tmp_path):
    path = tmp_path / "file"
    temporary_path(path).write_bytes(b"a long leftover")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    write_bytes(link, b"new")
    assert (target.read_bytes(), link.read_bytes()) == (b"precious", b"new")
    assert not link.is_symlink()


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"text"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    before = open_files()
    for path, reason in [
        (tmp_path / "pipe", "Not a regular file"),
        (tmp_path / "folder", "Is a directory"),
        (Path("/dev/zero"), "Not a regular file"),
        (tmp_path / "missing", "No such file"),
    ]:
        with pytest.raises(OSError, match=reason):
            open_regular(path)
    assert open_files() == before
