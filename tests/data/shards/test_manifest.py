import json
import os
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.shards.format import ShardError
from ramengpt.data.shards.manifest import (
    Manifest,
    ManifestShard,
    read_download_record,
    read_manifest,
    write_download_record,
    write_manifest,
)
from tests.data.make_shards import tiny_store


def shard(file: str, split: str) -> ManifestShard:
    return ManifestShard(file, split, 10, 2, 1044, "0" * 64, 20240520, 1)


MANIFEST = Manifest(
    "tiny", (shard("x_val_000000.bin", "val"), shard("x_train_000001.bin", "train"))
)


def test_round_trips_and_is_the_same_every_time(tmp_path):
    write_manifest(MANIFEST, tmp_path / "a.json")
    write_manifest(read_manifest(tmp_path / "a.json"), tmp_path / "b.json")
    assert read_manifest(tmp_path / "b.json") == MANIFEST
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    record = tiny_store(tmp_path)
    write_download_record(record, tmp_path / "r.json")
    assert read_download_record(tmp_path / "r.json") == record


def test_splits():
    assert [entry.file for entry in MANIFEST.split("train")] == ["x_train_000001.bin"]


def change(number: int, **values: object):
    def apply(content):
        content["shards"][number] |= values

    return apply


EDITS = {
    "unknown key": (lambda content: content.update(extra=1), "top level, keys"),
    "missing key": (lambda content: content["shards"][1].pop("tokens"), r"shards\[1\], keys"),
    "no shards": (lambda content: content.update(shards=[]), "at least one val and one train"),
    "no train": (lambda content: content["shards"].pop(), "at least one val and one train"),
    "order": (lambda content: content["shards"].reverse(), "val shards before train"),
    "repeated": (change(1, file="x_val_000000.bin"), "each file once"),
    "path": (change(0, file="../x.bin"), r"shards\[0\].file"),
    "split": (change(0, split="test"), r"shards\[0\].split"),
    "bool": (change(0, documents=True), r"shards\[0\].documents"),
    "string": (change(0, bytes="1044"), r"shards\[0\].bytes"),
    "size": (change(0, tokens=11), r"shards\[0\].bytes: expected 1046, found 1044"),
    "sha256": (change(1, sha256="0" * 63), r"shards\[1\].sha256"),
    "version": (change(1, version=2), r"shards\[1\].version: expected 1, found 2"),
    "list": (lambda content: content["shards"].append([]), r"shards\[2\]"),
}


@pytest.mark.parametrize("edit,message", EDITS.values(), ids=list(EDITS))
def test_what_is_no_manifest_is_refused_by_name(tmp_path, edit, message):
    path = tmp_path / "manifest.json"
    write_manifest(MANIFEST, path)
    content = json.loads(path.read_bytes())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ShardError, match=message) as caught:
        read_manifest(path)
    assert "python -m pipeline.verify" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff", b"null"])
def test_a_file_that_is_missing_or_no_json(tmp_path, content):
    path = tmp_path / "download.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ShardError, match=r"download.json: .*run `python -m pipeline.download`"):
        read_download_record(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
)


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_any_manifest_is_read_or_refused_in_one_line(tmp_path_factory, data):
    """The right content with one value replaced, other JSON, and random bytes."""
    path = tmp_path_factory.getbasetemp() / "manifest.json"
    content = asdict(MANIFEST)
    place = data.draw(st.sampled_from([content, *content["shards"]]))
    place[data.draw(st.sampled_from([*place, "more"]))] = data.draw(json_values)
    path.write_bytes(
        data.draw(
            st.just(json.dumps(content).encode())
            | json_values.map(lambda value: json.dumps(value).encode())
            | st.binary(max_size=50)
            | st.integers(1, 60_000).map(lambda depth: b"[" * depth)
            | st.integers(1, 9000).map(lambda digits: b"9" * digits)
        )
    )
    try:
        manifest = read_manifest(path)
    except ShardError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 2500
    else:
        assert [shard.split for shard in manifest.shards] == ["val", "train"]
        write_manifest(manifest, path)
        assert read_manifest(path) == manifest


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused(tmp_path, kind):
    path = tmp_path / "manifest.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ShardError, match=r"manifest\.json: file: expected a readable file"):
        read_manifest(path)
