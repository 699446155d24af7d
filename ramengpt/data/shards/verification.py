"""Are the shards on disk what they should be? Once in full for the manifest, then at every start.

`verify_shards` reads every byte and records what it found. `check_store` compares the files with
that record; it reads only what changed since it was last hashed. Neither writes to a shard.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ramengpt.data.shards.checksums import CHUNK_BYTES, Checksums, stamp
from ramengpt.data.shards.format import (
    BOS_TOKEN,
    HEADER_BYTES,
    TOKEN_BYTES,
    VOCABULARY_SIZE,
    Fault,
    ShardError,
    inspect_shard,
)
from ramengpt.data.shards.manifest import DownloadedShard, DownloadRecord, Manifest, ManifestShard
from ramengpt.files import open_regular

MAX_THREADS = 8

Shard = TypeVar("Shard", DownloadedShard, ManifestShard)


@dataclass
class _Content:
    """What one pass over a shard's bytes finds."""

    sha256: str = ""
    documents: int = 0
    first_token: int = -1
    bad_tokens: int = 0
    first_bad_token: int = -1
    first_bad_byte: int = -1


def verify_shards(
    record: DownloadRecord, folder: Path, advance: Callable[[int], None]
) -> tuple[Manifest | None, list[Fault]]:
    """Check every shard of the download record, all of it, several at a time.

    Header, size, range of the tokens and checksum; and that the first shard opens with a document.
    Later ones may open with the rest of a document that the shard before could not hold.

    Args:
        record: which shards, and their checksums at the source.
        folder: the store's folder.
        advance: called after every chunk with the number of bytes read.

    Returns:
        The manifest and no faults, or no manifest and every fault of every shard.
    """
    checksums = Checksums(folder)
    verifier = _Verifier(record, folder, checksums, advance)
    results = _in_threads(verifier.verify, record.shards)
    checksums.save()
    faults = [fault for _, shard_faults in results for fault in shard_faults]
    if faults:
        return None, faults
    shards = tuple(shard for shard, _ in results if shard is not None)
    return Manifest(record.dataset, shards), []


def check_store(manifest: Manifest, folder: Path) -> None:
    """Refuse shards that are not those of the manifest.

    Header and size are read every time; the content is hashed unless it was hashed before and the
    file has not been touched since (:class:`~ramengpt.data.shards.checksums.Checksums`).

    Args:
        manifest: what verify found.
        folder: the store's folder.

    Raises:
        ShardError: with every shard that differs.
    """
    checksums = Checksums(folder)
    files = {shard.sha256: shard.file for shard in manifest.shards}

    def check(shard: ManifestShard) -> list[Fault]:
        path = folder / shard.file
        header, faults = inspect_shard(path)
        if header is not None and not faults and header.num_tokens != shard.tokens:
            field = "header field number of tokens (byte 8)"
            expected = f"{shard.tokens} (data/manifest.json)"
            faults.append(Fault(str(path), field, expected, str(header.num_tokens)))
        if faults:
            return faults
        try:
            found = checksums.sha256(shard.file)
        except OSError as error:
            return [Fault(str(path), "content", "readable bytes", str(error.strerror))]
        return _checksum_faults(path, shard.sha256, found, files, "data/manifest.json")

    results = _in_threads(check, manifest.shards)
    checksums.save()
    if any(results):
        raise ShardError(*(fault for faults in results for fault in faults))


Result = TypeVar("Result")


def _in_threads(task: Callable[[Shard], Result], shards: Iterable[Shard]) -> list[Result]:
    """Hashing and comparing release the interpreter lock, so threads are enough."""
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(task, shards))


@dataclass(frozen=True)
class _Verifier:
    """Holds what the checks of all shards share."""

    record: DownloadRecord
    folder: Path
    checksums: Checksums
    advance: Callable[[int], None]

    def verify(self, shard: DownloadedShard) -> tuple[ManifestShard | None, list[Fault]]:
        """Check one shard; what was found is None if its content cannot be read."""
        path = self.folder / shard.file
        header, faults = inspect_shard(path)
        if header is None or faults:
            return None, faults
        if header.file_bytes != shard.bytes:
            expected = f"{shard.bytes} bytes (data/download.json)"
            faults.append(Fault(str(path), "file size", expected, f"{header.file_bytes} bytes"))
        try:
            before = stamp(path)
            content = _read_content(path, self.advance)
            self.checksums.record(shard.file, before, content.sha256)
        except OSError as error:
            return None, [Fault(str(path), "content", "readable bytes", str(error.strerror))]
        faults += _token_faults(path, content, must_open=shard == self.record.shards[0])
        files = {other.sha256: other.file for other in self.record.shards}
        faults += _checksum_faults(path, shard.sha256, content.sha256, files, "data/download.json")
        found = ManifestShard(
            file=shard.file,
            split=shard.split,
            tokens=header.num_tokens,
            documents=content.documents,
            bytes=header.file_bytes,
            sha256=content.sha256,
            magic=header.magic,
            version=header.version,
        )
        return found, faults


def _read_content(path: Path, advance: Callable[[int], None]) -> _Content:
    """Read a shard once, in chunks, for its checksum and its tokens."""
    content = _Content()
    buffer = bytearray(CHUNK_BYTES)
    tokens = np.frombuffer(buffer, dtype="<u2")
    digest = hashlib.sha256()
    with open_regular(path) as file:
        digest.update(file.read(HEADER_BYTES))
        advance(HEADER_BYTES)
        offset = HEADER_BYTES
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
            _look_at_tokens(content, tokens[: count // TOKEN_BYTES], offset)
            offset += count
            advance(count)
    content.sha256 = digest.hexdigest()
    return content


def _look_at_tokens(content: _Content, tokens: np.ndarray, offset: int) -> None:
    """Count documents and bad tokens of a chunk that starts at byte `offset` of its file."""
    if content.first_token < 0 and tokens.size:
        content.first_token = int(tokens[0])
    content.documents += int(np.count_nonzero(tokens == BOS_TOKEN))
    if tokens.size == 0 or int(tokens.max()) < VOCABULARY_SIZE:
        return
    bad = np.flatnonzero(tokens >= VOCABULARY_SIZE)
    if content.bad_tokens == 0:
        content.first_bad_byte = offset + TOKEN_BYTES * int(bad[0])
        content.first_bad_token = int(tokens[bad[0]])
    content.bad_tokens += bad.size


def _token_faults(path: Path, content: _Content, must_open: bool) -> list[Fault]:
    faults = []
    if content.bad_tokens:
        where = f"token at byte {content.first_bad_byte}"
        found = f"{content.first_bad_token} ({content.bad_tokens} tokens out of range in all)"
        faults.append(Fault(str(path), where, f"below {VOCABULARY_SIZE}", found))
    if must_open and content.first_token != BOS_TOKEN:
        where = f"first token (byte {HEADER_BYTES})"
        expected = f"{BOS_TOKEN}, which opens a document"
        faults.append(Fault(str(path), where, expected, str(content.first_token)))
    return faults


def _checksum_faults(
    path: Path, expected: str, found: str, files: dict[str, str], source: str
) -> list[Fault]:
    if found == expected:
        return []
    other = files.get(found)
    whose = f" (the content of {other})" if other is not None else ""
    return [Fault(str(path), "sha256", f"{expected} ({source})", f"{found}{whose}")]
