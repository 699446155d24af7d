"""Shards for tests, written by `struct` from the format's description alone."""

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ramengpt.data.batches.indexed_split import IndexedShard
from ramengpt.data.shards.format import Split
from ramengpt.data.shards.manifest import DownloadedShard, DownloadRecord, Manifest
from ramengpt.data.shards.verification import verify_shards

BOS = 50256


def shard_bytes(
    tokens: Sequence[int], header: Sequence[int] | None = None, order: str = "<"
) -> bytes:
    """The file of these tokens; `header` replaces the first integers."""
    first = list(header) if header is not None else [20240520, 1, len(tokens)]
    integers = first + [0] * (256 - len(first))
    return struct.pack(f"{order}256i", *integers) + struct.pack(f"{order}{len(tokens)}H", *tokens)


def parse_shard(content: bytes) -> list[int]:
    """The tokens of a file."""
    magic, version, count, *rest = struct.unpack("<256i", content[:1024])
    assert (magic, version, set(rest)) == (20240520, 1, {0})
    return list(struct.unpack(f"<{count}H", content[1024:]))


def random_tokens(seed: int, num_tokens: int, mean_document_tokens: int = 20) -> list[int]:
    """Documents of random lengths; the first token opens one."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, BOS, num_tokens)
    tokens[random.random(num_tokens) < 1 / mean_document_tokens] = BOS
    tokens[0] = BOS
    return tokens.tolist()


def write_store(folder: Path, shards: dict[str, Sequence[int]]) -> DownloadRecord:
    """Write shards by file name, in order, and return their download record."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for file, tokens in shards.items():
        content = shard_bytes(tokens)
        (folder / file).write_bytes(content)
        split: Split = "val" if "_val_" in file else "train"
        digest = hashlib.sha256(content).hexdigest()
        entries.append(DownloadedShard(file, split, len(content), digest))
    return DownloadRecord("tiny", tuple(entries))


def tiny_store(folder: Path, num_tokens: int = 3000) -> DownloadRecord:
    """One validation shard and two of training, all different."""
    names = ["x_val_000000.bin", "x_train_000001.bin", "x_train_000002.bin"]
    shards = {name: random_tokens(seed, num_tokens) for seed, name in enumerate(names)}
    return write_store(folder, shards)


def manifest_of(record: DownloadRecord, folder: Path) -> Manifest:
    """What verify finds, where nothing is wrong."""
    manifest, faults = verify_shards(record, folder, lambda num_bytes: None)
    assert manifest is not None and not faults
    return manifest


def indexed(tokens: Sequence[int]) -> IndexedShard:
    """A shard in memory, its documents found by looking at every token."""
    starts = [place for place, token in enumerate(tokens) if token == BOS]
    return IndexedShard(np.array(tokens, dtype=np.uint16), np.array(starts, dtype=np.int64))


def open_files() -> int:
    """How many files this process holds open."""
    return len(list(Path("/proc/self/fd").iterdir()))
