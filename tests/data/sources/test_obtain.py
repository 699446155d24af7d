"""One download of a store at a time, and what a disk says about it in one line."""

import errno

import pytest
from filelock import FileLock, Timeout

from ramengpt.data.sources.obtain import LOCK_NAME, locked_store
from ramengpt.errors import UserError


def test_a_store_is_made_and_locked_while_it_is_filled(tmp_path):
    store = tmp_path / "shards" / "tiny"
    other = FileLock(store / LOCK_NAME)
    with locked_store(store), pytest.raises(Timeout):
        other.acquire(timeout=0)
    other.acquire(timeout=0)
    other.release()


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EROFS, "its disk is read-only"),
        (errno.EACCES, "fix its permissions"),
    ],
)
def test_an_error_of_the_disk_is_one_line_with_its_place(tmp_path, code, advice):
    with pytest.raises(UserError) as caught, locked_store(tmp_path):
        raise OSError(code, "the disk's reason", "a.bin")
    line = str(caught.value)
    assert line.startswith(f"a.bin: the disk's reason; {advice}") and "\n" not in line
    FileLock(tmp_path / LOCK_NAME).acquire(timeout=0)
