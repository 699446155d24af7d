import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
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
    assert open_offsets(tmp_path / "x.npy", documents, len(tokens)).tolist() == expected.tolist()


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
    assert documents == 1 and open_offsets(tmp_path / "x.npy", 1, 10**8).tolist() == [99_999_999]
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
    "no json": (lambda f: (f / INDEX_FILE).write_text("{"), "index.json: file: expected JSON"),
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


OFFSETS = {
    "int32": np.zeros(3, np.int32),
    "two-dimensional": np.zeros((3, 1), np.int64),
    "float64": np.zeros(3),
    "big-endian": np.arange(3, dtype=">i8"),
    "shorter": np.arange(2),
    "longer": np.arange(4),
    "of Fortran": np.asfortranarray(np.zeros((3, 2), np.int64)),
    "pickles": np.array([{}, {}, {}]),
}
VALUES = {"reversed": [2, 1, 0], "twice": [0, 1, 1], "negative": [-1, 0, 1], "beyond": [0, 1, 9]}


@pytest.mark.parametrize("array", OFFSETS.values(), ids=list(OFFSETS))
def test_offsets_of_another_kind_are_refused(tmp_path, array):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ShardError, match=r"x\.npy: array: expected int64 \[3\], 152 bytes"):
        open_offsets(tmp_path / "x.npy", 3, 9)


@pytest.mark.parametrize("values", VALUES.values(), ids=list(VALUES))
def test_offsets_that_no_shard_has_are_refused(tmp_path, values):
    np.save(tmp_path / "x.npy", np.array(values))
    with pytest.raises(ShardError, match=r"x\.npy: offsets: expected ascending, from 0 to below 9"):
        open_offsets(tmp_path / "x.npy", 3, 9)


HOSTILE = {
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("file", [INDEX_FILE, "x_train_000001.npy"])
@pytest.mark.parametrize("make", HOSTILE.values(), ids=list(HOSTILE))
def test_what_is_no_file_is_refused_in_one_line(index, file, make):
    manifest, _, folder = index
    (folder / file).unlink()
    make(folder / file)
    with pytest.raises(ShardError) as caught:
        check_index(manifest, folder)
    assert len(str(caught.value).splitlines()) == 1 and file in str(caught.value)
    with pytest.raises(ShardError, match=r"file: expected a readable \.npy"):
        open_offsets(folder / file, 3, 9)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
)


@given(data=st.data())
@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_index_json_is_read_or_refused(index, data):
    """Random bytes, other JSON, and the right content with one value replaced."""
    manifest, _, folder = index
    good = (folder / INDEX_FILE).read_bytes()
    content = json.loads(good)
    entry = data.draw(st.sampled_from(content["shards"]))
    key = data.draw(st.sampled_from([*entry, "more"]))
    replaced = data.draw(json_values)
    entry[key] = replaced
    bad = data.draw(
        st.just(json.dumps(content).encode())
        | json_values.map(lambda value: json.dumps({"dataset": "tiny", "shards": value}).encode())
        | st.binary(max_size=50)
        | st.integers(1, 60_000).map(lambda depth: b"[" * depth)
        | st.integers(0, len(good) - 2).map(lambda end: good[:end])
    )
    (folder / INDEX_FILE).write_bytes(bad)
    try:
        with pytest.raises(ShardError) as caught:
            check_index(manifest, folder)
    finally:
        (folder / INDEX_FILE).write_bytes(good)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(caught.value.faults) and all(len(line) < 2000 for line in lines)


@given(place=st.integers(0, 200), new=st.binary(min_size=1, max_size=40), cut=st.booleans())
@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_npy_is_read_or_refused(tmp_path, place, new, cut):
    """Any change of header, size or values that could mislead training."""
    np.save(tmp_path / "good.npy", np.array([0, 5, 7]))
    good = (tmp_path / "good.npy").read_bytes()
    bad = good[:place] + new + (b"" if cut else good[place + len(new) :])
    (tmp_path / "x.npy").write_bytes(bad)
    try:
        offsets = open_offsets(tmp_path / "x.npy", 3, 9).tolist()
    except ShardError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert len(bad) == len(good) and bad[:128] == good[:128]
        assert offsets == sorted(set(offsets)) and offsets[0] >= 0 and offsets[-1] < 9
