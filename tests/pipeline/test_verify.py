import pytest

from pipeline.verify import verify
from ramengpt.data.shards.format import ShardError
from ramengpt.data.shards.manifest import MANIFEST_PATH, read_manifest, write_download_record
from ramengpt.data.shards.store import locate_store
from tests.data.make_shards import tiny_store


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A checkout with a tiny dataset that was downloaded."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATA_PATH", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    folder = locate_store("tiny").folder
    write_download_record(tiny_store(folder))
    return folder


def test_writes_the_manifest(store):
    manifest = verify("tiny")
    assert read_manifest() == manifest
    assert [shard.tokens for shard in manifest.shards] == [3000] * 3


def test_a_bad_shard_leaves_no_manifest(store):
    verify("tiny")
    (store / "x_train_000001.bin").write_bytes(b"")
    (store / "x_train_000002.bin").unlink()
    with pytest.raises(ShardError, match=r"(?s)train_000001\.bin: header.*train_000002\.bin: file"):
        verify("tiny")
    assert not MANIFEST_PATH.exists()


def test_a_download_record_of_another_dataset(store):
    with pytest.raises(ShardError, match=r"download.json: dataset: expected 'other', found 'tiny'"):
        verify("other")


def test_no_download_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ShardError, match=r"download.json: file: .*python -m pipeline.download"):
        verify("tiny")


def test_data_path_is_followed_and_announced(store, tmp_path, monkeypatch, capsys):
    moved = store.rename(tmp_path / "tiny")
    monkeypatch.setenv("DATA_PATH", str(moved.parent))
    verify("tiny")
    assert f"DATA_PATH={tmp_path}" in capsys.readouterr().err
