"""Many shards, one at a time."""

import os
from pathlib import Path

import numpy as np
import pytest

from ramengpt.data.batches.batcher import START, Batcher
from ramengpt.data.batches.indexed_split import SplitShards
from ramengpt.data.batches.reading_order import ReadingOrder
from ramengpt.data.index.bos_index import build_index, index_path
from ramengpt.data.shards.format import MAGIC, VERSION, ShardError, ShardHeader
from ramengpt.data.shards.manifest import Manifest, ManifestShard
from tests.data.make_shards import BOS, manifest_of, open_files, random_tokens, tiny_store

SHARDS, SHARD_TOKENS, DOCUMENTS = 100, 100_000_000, 10


@pytest.fixture
def tiny(tmp_path):
    """A tiny dataset on disk with its index."""
    manifest = manifest_of(tiny_store(tmp_path), tmp_path)
    build_index(manifest, tmp_path, tmp_path / "index")
    return SplitShards(manifest, "train", tmp_path, tmp_path / "index")


def test_gives_the_shards_of_its_split_in_order(tiny):
    assert len(tiny) == 2
    for number in (0, 1, 0, 1):
        tokens, offsets = tiny[number]
        assert tokens.tolist() == random_tokens(number + 1, 3000)
        assert offsets.tolist() == np.flatnonzero(tokens == BOS).tolist()
    assert tiny[1] is tiny[1]
    for number in (-1, 2):
        with pytest.raises(IndexError):
            tiny[number]


def test_a_shard_that_is_gone_is_named_when_it_is_reached(tiny, tmp_path):
    (tmp_path / "x_train_000002.bin").unlink()
    assert tiny[0].tokens.size == 3000
    with pytest.raises(ShardError, match=r"x_train_000002\.bin: file"):
        tiny[1]


def resident_megabytes() -> float:
    """Of this process, shared and file-backed pages included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.fixture(scope="module")
def sparse_shards(tmp_path_factory) -> tuple[Manifest, Path]:
    """20 GB of shards that take little disk: long documents of zeros, their starts real."""
    offsets = np.arange(DOCUMENTS, dtype=np.int64) * (SHARD_TOKENS // DOCUMENTS)
    header = ShardHeader(MAGIC, VERSION, SHARD_TOKENS)
    shards = []
    folder = tmp_path_factory.mktemp("sparse")
    (folder / "index").mkdir()
    for number in range(SHARDS):
        file = f"x_train_{number:06d}.bin"
        with (folder / file).open("wb") as stream:
            stream.write(header.to_bytes())
            stream.truncate(header.file_bytes)
            for offset in offsets:
                stream.seek(1024 + 2 * int(offset))
                stream.write(BOS.to_bytes(2, "little") + (number + 1).to_bytes(2, "little"))
        np.save(index_path(file, folder / "index"), offsets)
        facts = (SHARD_TOKENS, DOCUMENTS, header.file_bytes, "0" * 64, MAGIC, VERSION)
        shards.append(ManifestShard(file, "train", *facts))
    return Manifest("sparse", tuple(shards)), folder


@pytest.mark.parametrize("shuffled", [False, True])
def test_20_gigabytes_in_little_memory(sparse_shards, shuffled):
    """An epoch maps about 0.6 MB of each of 100 shards; they must not add up."""
    manifest, folder = sparse_shards
    assert sum(shard.bytes for shard in manifest.shards) > 20e9
    shards = SplitShards(manifest, "train", folder, folder / "index")
    sequence_tokens = 1000
    batcher = Batcher(shards, ReadingOrder(shuffled, False, 0, sequence_tokens))
    batch_3T = np.zeros((3, DOCUMENTS * sequence_tokens // 10), dtype=np.int32)
    files = open_files()
    cursor, start_megabytes, most_megabytes, seen = START, resident_megabytes(), 0.0, []
    while cursor.epoch == 0:
        cursor = batcher.fill(cursor, sequence_tokens, batch_3T)
        seen.append(int(batch_3T[0, 1]))
        most_megabytes = max(most_megabytes, resident_megabytes() - start_megabytes)
        assert open_files() <= files + 2
    assert set(seen) == set(range(1, SHARDS + 1)) and (seen == sorted(seen)) is not shuffled
    assert most_megabytes < 15
