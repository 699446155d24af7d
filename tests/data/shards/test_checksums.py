import hashlib
import json
import os
import time

import pytest

from ramengpt.data.shards import checksums
from ramengpt.data.shards.checksums import CACHE_NAME, Checksums, file_sha256


@pytest.fixture
def settled(monkeypatch):
    """Let every file look as if it had been there for a while."""
    now = time.time_ns
    monkeypatch.setattr(checksums.time, "time_ns", lambda: now() + 10**10)


@pytest.fixture
def hashed(monkeypatch):
    """The files that were read."""
    files = []

    def count(path):
        files.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(checksums, "file_sha256", count)
    return files


def test_hashes_any_size(tmp_path):
    for size in (0, 1, 2**22, 2**22 + 5):
        (tmp_path / "file").write_bytes(os.urandom(size))
        expected = hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
        assert file_sha256(tmp_path / "file") == expected


def test_a_file_is_read_once_also_by_the_next_process(tmp_path, settled, hashed):
    (tmp_path / "file").write_bytes(b"content")
    first = Checksums(tmp_path)
    found = {first.sha256("file") for _ in range(3)}
    first.save()
    found.add(Checksums(tmp_path).sha256("file"))
    assert found == {hashlib.sha256(b"content").hexdigest()} and hashed == ["file"]


def test_a_rewritten_file_is_read_again_even_if_its_date_was_put_back(tmp_path, settled, hashed):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    known = Checksums(tmp_path)
    known.sha256("file")
    status = path.stat()
    time.sleep(0.02)  # the change time ticks every few milliseconds
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert known.sha256("file") == hashlib.sha256(b"CONTENT").hexdigest()


def test_a_young_file_is_not_remembered(tmp_path, hashed):
    (tmp_path / "file").write_bytes(b"content")
    known = Checksums(tmp_path)
    known.sha256("file")
    known.sha256("file")
    known.save()
    assert hashed == ["file", "file"] and not (tmp_path / CACHE_NAME).exists()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"file": 1}', b'{"file": [["x"], "y"]}', b"\xff"]
)
def test_a_damaged_cache_only_costs_time(tmp_path, content, hashed):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / CACHE_NAME).write_bytes(content)
    assert Checksums(tmp_path).sha256("file") == hashlib.sha256(b"content").hexdigest()
    assert hashed == ["file"]


def test_a_store_that_cannot_be_written_to_is_fine(tmp_path, settled, monkeypatch):
    (tmp_path / "file").write_bytes(b"content")
    known = Checksums(tmp_path)
    known.sha256("file")

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(checksums, "write_bytes", refuse)
    known.save()


def test_files_that_are_gone_are_forgotten(tmp_path, settled):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"content")
    known = Checksums(tmp_path)
    known.sha256("a")
    known.sha256("b")
    (tmp_path / "a").unlink()
    known.save()
    assert list(json.loads((tmp_path / CACHE_NAME).read_bytes())) == ["b"]
