import csv
import json

import numpy as np
import pytest

from pipeline.index import METRICS_PATH, PLOT_PATH, index
from ramengpt.data.index.bos_index import INDEX_FOLDER, check_index, index_path, open_offsets
from ramengpt.data.shards.format import ShardError, open_shard
from ramengpt.data.shards.manifest import read_manifest, write_manifest
from ramengpt.data.shards.store import locate_store
from tests.data.make_shards import BOS, manifest_of, tiny_store, write_store


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A checkout with a tiny dataset that was verified."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATA_PATH", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    folder = locate_store("tiny").folder
    write_manifest(manifest_of(tiny_store(folder), folder))
    return folder


def test_indexes_every_shard(store):
    index()
    check_index(read_manifest())
    for shard in read_manifest().shards:
        offsets = open_offsets(index_path(shard.file, INDEX_FOLDER), shard.documents)
        expected = np.flatnonzero(open_shard(store / shard.file) == BOS)
        assert offsets.tolist() == expected.tolist()


def test_metrics_and_plot(store):
    index()
    metrics = json.loads(METRICS_PATH.read_bytes())
    train = metrics["train"]
    assert (train["shards"], train["tokens"], metrics["val"]["tokens"]) == (2, 6000, 3000)
    assert train["documents"] == sum(s.documents for s in read_manifest().split("train"))
    assert train["length_tokens"]["mean"] == pytest.approx(6000 / train["documents"])
    rows = list(csv.DictReader(PLOT_PATH.read_text().splitlines()))
    for column in ("train_percent", "val_percent"):
        assert sum(float(row[column]) for row in rows) == pytest.approx(100, abs=1e-3)
    edges = [int(row["length_tokens"]) for row in rows]
    assert edges == sorted(set(edges))


def test_the_same_input_gives_the_same_bytes(store, tmp_path):
    def outputs():
        folders = (tmp_path / "data/index", tmp_path / "results/index")
        return {path: path.read_bytes() for folder in folders for path in folder.iterdir()}

    index()
    first = outputs()
    index()
    assert outputs() == first and len(first) == 6


def test_shards_that_are_not_those_of_the_manifest_are_refused(store):
    write_store(store, {"x_train_000002.bin": [BOS] + [1] * 2999})
    with pytest.raises(ShardError, match=r"x_train_000002\.bin: sha256"):
        index()
    assert not INDEX_FOLDER.exists()
