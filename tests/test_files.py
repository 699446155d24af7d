import pytest

from ramengpt.files import atomic_writer, temporary_path, write_bytes


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
