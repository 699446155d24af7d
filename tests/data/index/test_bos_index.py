import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.index.bos_index import (
    INDEX_FILE,
    build_index,
    check_index,
    index_path,
    index_shard,
    open_offsets,
    scan_documents,
)
from ramengpt.data.shards.format import MAGIC, VERSION, ShardError, ShardHeader
from tests.data.make_shards import BOS, manifest_of, shard_bytes, tiny_store, write_store

VAL, FIRST, SECOND = "x_val_000000.bin", "x_train_000001.bin", "x_train_000002.bin"


@given(
    tokens=st.lists(st.sampled_from([BOS, 0, 1, 50255, 65535]), max_size=200),
    chunk_tokens=st.sampled_from([1, 7, 8, 16, 65, 1024]),
)
@settings(deadline=None, max_examples=200)
def test_finds_every_document(tokens, chunk_tokens):
    found = list(scan_documents(np.array(tokens, dtype=np.uint16), chunk_tokens))
    expected = [place for place, token in enumerate(tokens) if token == BOS]
    assert [int(offset) for part in found for offset in part] == expected
    assert all(part.dtype == np.int64 for part in found)


@pytest.mark.parametrize("tokens", [[1, 2, 3], [BOS] * 300_000, [BOS, 5] * 150_000], ids=len)
def test_the_file_is_a_plain_npy(tmp_path, tokens):
    (tmp_path / "x.bin").write_bytes(shard_bytes(tokens))
    documents = index_shard(tmp_path / "x.bin", tmp_path / "x.npy")
    expected = np.flatnonzero(np.array(tokens) == BOS)
    assert documents == expected.size
    np.save(tmp_path / "expected.npy", expected)
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
    assert open_offsets(tmp_path / "x.npy", documents).tolist() == expected.tolist()


PEAK_MEMORY = """
import sys
from pathlib import Path
from ramengpt.data.index.bos_index import index_shard
print(index_shard(Path(sys.argv[1]), Path(sys.argv[2])))
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def test_100_million_tokens_in_little_memory(tmp_path):
    """A sparse file: zeros that take no disk, one document at the end."""
    header = ShardHeader(MAGIC, VERSION, 100_000_000)
    with (tmp_path / "x.bin").open("wb") as file:
        file.write(header.to_bytes())
        file.seek(header.file_bytes - 2)
        file.write(BOS.to_bytes(2, "little"))
    command = [sys.executable, "-c", PEAK_MEMORY, str(tmp_path / "x.bin"), str(tmp_path / "x.npy")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    documents, peak_kilobytes = (int(line) for line in done.stdout.split())
    assert documents == 1 and open_offsets(tmp_path / "x.npy", 1).tolist() == [99_999_999]
    assert peak_kilobytes * 1024 < 300e6


@pytest.fixture
def index(tmp_path):
    """A store, its manifest and its index."""
    manifest = manifest_of(tiny_store(tmp_path / "store"), tmp_path / "store")
    done = []
    build_index(manifest, tmp_path / "store", tmp_path / "index", done.append)
    assert done == [3000] * 3
    return manifest, tmp_path / "store", tmp_path / "index"


def test_what_was_built_passes_and_is_deterministic(index):
    manifest, store, folder = index
    check_index(manifest, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "old_train_000009.npy").write_bytes(b"of a dataset before")
    build_index(manifest, store, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def rewrite_entry(folder, **values):
    """Change the entry of the second shard."""
    content = json.loads((folder / INDEX_FILE).read_bytes())
    content["shards"][1] |= values
    (folder / INDEX_FILE).write_text(json.dumps(content))


FAULTS = {
    "no folder": (shutil.rmtree, "index.json: file: expected a readable index, found No such"),
    "no index.json": (lambda f: (f / INDEX_FILE).unlink(), "index.json: file: expected a readable"),
    "no json": (lambda f: (f / INDEX_FILE).write_text("{"), "index.json: file: expected an index"),
    "other json": (lambda f: (f / INDEX_FILE).write_text("{}"), "index.json: file: expected an"),
    "unknown key": (lambda f: rewrite_entry(f, more=1), "index.json: file: expected an index"),
    "no entry": (lambda f: rewrite_entry(f, shard="y"), f"shards: expected an entry for {FIRST}"),
    "stale": (lambda f: rewrite_entry(f, shard_sha256="0" * 64), f"found {'0' * 64} (stale)"),
    "count": (lambda f: rewrite_entry(f, documents=1), "number of documents: expected"),
    "no npy": (lambda f: index_path(FIRST, f).unlink(), "file: expected a readable .npy, found No"),
    "truncated": (lambda f: os.truncate(index_path(FIRST, f), 200), "sha256: expected"),
    "swapped": (lambda f: shutil.copy(index_path(SECOND, f), index_path(FIRST, f)), "sha256: exp"),
}


@pytest.mark.parametrize("corrupt,message", FAULTS.values(), ids=list(FAULTS))
def test_an_index_that_is_missing_stale_or_damaged_is_refused(index, corrupt, message):
    manifest, _, folder = index
    corrupt(folder)
    with pytest.raises(ShardError) as caught:
        check_index(manifest, folder)
    assert len(caught.value.faults) == 1
    assert message in str(caught.value) and "run `python -m pipeline.index`" in str(caught.value)


def test_every_flipped_byte_of_the_offsets_is_noticed(index):
    manifest, _, folder = index
    path = index_path(VAL, folder)
    good = path.read_bytes()
    for place in range(0, len(good), 7):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        with pytest.raises(ShardError, match=r"x_val_000000\.npy: sha256"):
            check_index(manifest, folder)


def test_the_index_of_other_shards_is_stale(index, tmp_path):
    _, store, folder = index
    tokens = [BOS, 1, 2, 3]
    shards = {VAL: tokens, FIRST: [*tokens, 4], SECOND: [*tokens, 5]}
    manifest = manifest_of(write_store(store, shards), store)
    with pytest.raises(ShardError) as caught:
        check_index(manifest, folder)
    assert len(caught.value.faults) == 3


def test_a_shard_that_changed_since_the_manifest_is_not_indexed(index):
    manifest, store, folder = index
    (store / FIRST).write_bytes(shard_bytes([BOS] + [1] * 2999))
    with pytest.raises(ShardError, match=f"{FIRST}: number of documents"):
        build_index(manifest, store, folder)
    assert not (folder / INDEX_FILE).exists()


@pytest.mark.parametrize("array", [np.zeros(3, np.int32), np.zeros((3, 1), np.int64), np.zeros(4)])
def test_offsets_of_another_kind_are_refused(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ShardError, match=r"x\.npy: array: expected int64 \[3\]"):
        open_offsets(tmp_path / "x.npy", 3)


def test_pickles_are_not_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ShardError, match=r"expected a readable \.npy"):
        open_offsets(tmp_path / "x.npy", 1)
