"""Faults of shards: what verify says of them, and that training never reads one."""

import dataclasses
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from ramengpt.data.shards import checksums, verification
from ramengpt.data.shards.format import ShardError
from ramengpt.data.shards.manifest import DownloadedShard, DownloadRecord
from ramengpt.data.shards.verification import check_store, verify_shards
from tests.data.make_shards import BOS, manifest_of, shard_bytes, tiny_store, write_store

VAL, FIRST, SECOND = "x_val_000000.bin", "x_train_000001.bin", "x_train_000002.bin"


def ignore(num_bytes: int) -> None:
    """Nobody watches the progress."""


def snapshot(folder: Path) -> dict[str, object]:
    """Every file's content, links as links."""
    return {
        path.name: os.readlink(path) if path.is_symlink() else path.read_bytes()  # noqa: PTH115
        for path in folder.iterdir()
        if path.is_symlink() or path.is_file()
    }


def edit(path: Path, offset: int, new: bytes) -> None:
    """Overwrite some bytes."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(new)] = new
    path.write_bytes(content)


def grow(path: Path) -> None:
    """Append a byte."""
    path.write_bytes(path.read_bytes() + b"x")


def swap(folder: Path) -> None:
    """Exchange the two training shards."""
    (folder / FIRST).rename(folder / "z")
    (folder / SECOND).rename(folder / FIRST)
    (folder / "z").rename(folder / SECOND)


def big_endian(path: Path) -> None:
    """Store header and tokens the other way round."""
    tokens = np.frombuffer(path.read_bytes()[1024:], dtype="<u2").tolist()
    path.write_bytes(shard_bytes(tokens, order=">"))


def relink(path: Path, target: Path) -> None:
    """Put a symbolic link in the place of a file."""
    path.unlink()
    path.symlink_to(target)


def replace_by_pipe(path: Path) -> None:
    """A named pipe that nobody writes to: reading it would wait for ever."""
    path.unlink()
    os.mkfifo(path)


def make_unlike(path: Path) -> None:
    """A whole shard of the same size with other text."""
    path.write_bytes(shard_bytes([BOS] + [7] * 2999))


CORRUPTIONS = {
    "missing": (lambda f: (f / FIRST).unlink(), FIRST, "file: expected a readable shard, found No"),
    "empty": (
        lambda f: (f / FIRST).write_bytes(b""),
        FIRST,
        "header: expected 1024 bytes, found 0",
    ),
    "magic": (lambda f: edit(f / FIRST, 1, b"\0"), FIRST, "magic (byte 0): expected 20240520"),
    "version": (
        lambda f: edit(f / FIRST, 4, b"\2"),
        FIRST,
        "version (byte 4): expected 1, found 2",
    ),
    "count": (
        lambda f: edit(f / FIRST, 8, b"\1"),
        FIRST,
        "file size: expected 6658 bytes for 2817",
    ),
    "reserved": (lambda f: edit(f / FIRST, 1000, b"\1"), FIRST, "integer 250 (byte 1000)"),
    "big-endian": (lambda f: big_endian(f / FIRST), FIRST, "the header is big-endian"),
    "truncated": (lambda f: os.truncate(f / FIRST, 4000), FIRST, "found 4000 bytes (truncated)"),
    "grown": (lambda f: grow(f / VAL), VAL, "found 7025 bytes (grown)"),
    "zeroed": (lambda f: edit(f / SECOND, 4096, bytes(512)), SECOND, "sha256: expected"),
    "swapped": (swap, FIRST, f"(the content of {SECOND})"),
    "another's": (lambda f: shutil.copy(f / VAL, f / SECOND), SECOND, f"(the content of {VAL})"),
    "replaced": (lambda f: make_unlike(f / SECOND), SECOND, "sha256: expected"),
    "dangling": (lambda f: relink(f / VAL, f / "no"), VAL, "a symbolic link to"),
    "loop": (lambda f: relink(f / VAL, f / VAL), VAL, "Too many levels of symbolic links"),
    "link": (lambda f: relink(f / VAL, f / FIRST), VAL, f"(the content of {FIRST})"),
    "a folder": (lambda f: relink(f / VAL, f), VAL, "Is a directory"),
    "a pipe": (lambda f: replace_by_pipe(f / FIRST), FIRST, "found Not a regular file"),
    "a device": (lambda f: relink(f / VAL, Path("/dev/zero")), VAL, "to /dev/zero: Not a regular"),
}


@pytest.mark.parametrize("corrupt,file,message", CORRUPTIONS.values(), ids=list(CORRUPTIONS))
def test_a_corruption_is_named_and_nothing_is_overwritten(tmp_path, corrupt, file, message):
    record = tiny_store(tmp_path)
    manifest = manifest_of(record, tmp_path)
    corrupt(tmp_path)
    before = snapshot(tmp_path)
    found, faults = verify_shards(record, tmp_path, ignore)
    with pytest.raises(ShardError) as caught:
        check_store(manifest, tmp_path)
    for lines in ([str(fault) for fault in faults], str(caught.value).splitlines()):
        matching = [line for line in lines if line.startswith(f"{tmp_path / file}: ")]
        assert len(matching) == 1 and message in matching[0]
        assert f"--redownload {file}" in matching[0]
    assert found is None
    assert snapshot(tmp_path) == before


def test_a_good_store_passes(tmp_path):
    record = tiny_store(tmp_path)
    read = []
    manifest, faults = verify_shards(record, tmp_path, read.append)
    assert manifest is not None and not faults
    assert sum(read) == sum(shard.bytes for shard in record.shards)
    for entry, shard in zip(record.shards, manifest.shards, strict=True):
        tokens = np.frombuffer((tmp_path / shard.file).read_bytes()[1024:], dtype="<u2")
        assert (shard.file, shard.sha256, shard.bytes) == (entry.file, entry.sha256, entry.bytes)
        assert (shard.tokens, shard.documents) == (tokens.size, (tokens == BOS).sum())
    check_store(manifest, tmp_path)


def test_every_bad_shard_is_reported(tmp_path):
    record = tiny_store(tmp_path)
    edit(tmp_path / VAL, 4, b"\2")
    os.truncate(tmp_path / FIRST, 2000)
    edit(tmp_path / SECOND, 2000, b"\xff\xff")
    _, faults = verify_shards(record, tmp_path, ignore)
    assert [Path(fault.file).name for fault in faults] == [VAL, FIRST, SECOND, SECOND]


def test_tokens_out_of_range_are_placed_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "CHUNK_BYTES", 1000)
    record = tiny_store(tmp_path)
    for offset in (3024, 3026, 5000):
        edit(tmp_path / FIRST, offset, (50257).to_bytes(2, "little"))
    _, faults = verify_shards(record, tmp_path, ignore)
    message = "token at byte 3024: expected below 50257, found 50257 (3 tokens out of range in all)"
    assert message in str(faults[0])


def test_the_first_shard_must_open_a_document_and_later_ones_need_not(tmp_path):
    shards = {VAL: [BOS, 1, 2], FIRST: [3, 4, BOS, 5], SECOND: [6, 7]}
    manifest_of(write_store(tmp_path, shards), tmp_path)
    shards[VAL] = [1, BOS, 2]
    _, faults = verify_shards(write_store(tmp_path, shards), tmp_path, ignore)
    assert [fault.where for fault in faults] == ["first token (byte 1024)"]


def test_equal_shards_are_legal(tmp_path):
    """Two short texts may well be the same."""
    shards = {VAL: [BOS, 1, 2], FIRST: [BOS, 4], SECOND: [BOS, 4]}
    manifest = manifest_of(write_store(tmp_path, shards), tmp_path)
    check_store(manifest, tmp_path)
    assert manifest.shards[1].sha256 == manifest.shards[2].sha256


def test_links_to_shards_elsewhere_are_followed(tmp_path):
    manifest = manifest_of(tiny_store(tmp_path), tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / FIRST).rename(tmp_path / "elsewhere/shard")
    (tmp_path / FIRST).symlink_to("elsewhere/shard")
    check_store(manifest, tmp_path)


def test_a_size_that_the_source_did_not_announce(tmp_path):
    record = tiny_store(tmp_path)
    other = tiny_store(tmp_path / "other", num_tokens=2999)
    shutil.copy(tmp_path / "other" / SECOND, tmp_path / SECOND)
    _, faults = verify_shards(record, tmp_path, ignore)
    assert (faults[0].where, faults[0].found) == ("file size", f"{other.shards[2].bytes} bytes")


def test_a_disk_that_fails_while_reading(tmp_path, monkeypatch):
    record = tiny_store(tmp_path)
    manifest = manifest_of(record, tmp_path)

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(verification, "_read_content", fail)
    monkeypatch.setattr(checksums, "file_sha256", fail)
    _, faults = verify_shards(record, tmp_path, ignore)
    assert [fault.found for fault in faults] == ["Input/output error"] * 3
    with pytest.raises(ShardError, match="content: expected readable bytes, found Input/output"):
        check_store(manifest, tmp_path)


def test_a_shard_replaced_between_verify_and_train(tmp_path, monkeypatch):
    """Also where the content was hashed before and size and date are as they were."""
    now = time.time_ns
    monkeypatch.setattr(checksums.time, "time_ns", lambda: now() + 10**10)
    manifest = manifest_of(tiny_store(tmp_path), tmp_path)
    read = []
    original = checksums.file_sha256
    monkeypatch.setattr(checksums, "file_sha256", lambda path: read.append(path) or original(path))
    check_store(manifest, tmp_path)
    assert read == []  # verify's own pass was enough
    status = (tmp_path / FIRST).stat()
    time.sleep(0.02)  # the change time ticks every few milliseconds
    make_unlike(tmp_path / FIRST)
    os.utime(tmp_path / FIRST, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ShardError, match=f"{FIRST}: sha256"):
        check_store(manifest, tmp_path)
    assert read == [tmp_path / FIRST]


def test_a_shard_with_another_number_of_tokens(tmp_path):
    manifest = manifest_of(tiny_store(tmp_path), tmp_path)
    tiny_store(tmp_path, num_tokens=2000)
    with pytest.raises(ShardError) as caught:
        check_store(manifest, tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "number of tokens (byte 8): expected 3000 (data/manifest.json), found 2000" in lines[0]


def exchange_tokens(content: bytes, first: int, second: int) -> bytes:
    """Two tokens in each other's place, all else right."""
    tokens = np.frombuffer(content[1024:], dtype="<u2").copy()
    places = [first % tokens.size, second % tokens.size]
    tokens[places] = tokens[places[::-1]]
    return content[:1024] + tokens.tobytes()


def shortened(content: bytes, num_tokens: int) -> bytes:
    """A whole shard, header and size in agreement, that lacks the end of the text."""
    return shard_bytes(np.frombuffer(content[1024:], dtype="<u2")[: num_tokens or 1].tolist())


RANDOM_CORRUPTIONS = (  # of content, at a place, of a length, with random bytes or another shard's
    lambda c, at, n, noise, other: c[:at] + bytes([c[at] ^ (1 << n % 8)]) + c[at + 1 :],
    lambda c, at, n, noise, other: c[:at] + bytes(len(c[at : at + n])) + c[at + n :],
    lambda c, at, n, noise, other: c[:at],
    lambda c, at, n, noise, other: c + noise,
    lambda c, at, n, noise, other: c[:at] + c[at + n :],
    lambda c, at, n, noise, other: c[:at] + other[at : at + n] + c[at + n :],
    lambda c, at, n, noise, other: c[:at] + noise[: len(c) - at] + c[at + n :],
    lambda c, at, n, noise, other: exchange_tokens(c, at, n),
    lambda c, at, n, noise, other: shortened(c, at),
)


def test_no_random_corruption_goes_unnoticed(tmp_path):
    record = tiny_store(tmp_path, num_tokens=800)
    manifest = manifest_of(record, tmp_path)
    good = {shard.file: (tmp_path / shard.file).read_bytes() for shard in record.shards}
    random = np.random.default_rng(20240520)
    for _ in range(2000):
        file, other = random.choice(list(good), size=2, replace=False)
        place, length = int(random.integers(len(good[file]))), int(random.integers(1, 600))
        corrupt = RANDOM_CORRUPTIONS[random.integers(len(RANDOM_CORRUPTIONS))]
        bad = corrupt(good[file], place, length, random.bytes(length), good[other])
        (tmp_path / file).write_bytes(bad)
        try:
            check_store(manifest, tmp_path)
            noticed = False
        except ShardError as error:
            assert {Path(fault.file).name for fault in error.faults} == {file}
            noticed = True
        assert noticed == (bad != good[file])
        (tmp_path / file).write_bytes(good[file])


def test_the_download_record_decides_what_belongs(tmp_path):
    record = tiny_store(tmp_path)
    (tmp_path / "x_train_000003.bin").write_bytes(b"another run's, not finished")
    fewer = DownloadRecord(record.dataset, record.shards[:2])
    assert [shard.file for shard in manifest_of(fewer, tmp_path).shards] == [VAL, FIRST]
    wrong = dataclasses.replace(record.shards[2], sha256="0" * 64)
    assert isinstance(wrong, DownloadedShard)
    _, faults = verify_shards(
        DownloadRecord(record.dataset, (*record.shards[:2], wrong)), tmp_path, ignore
    )
    assert [fault.where for fault in faults] == ["sha256"]
