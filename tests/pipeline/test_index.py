import csv
import json

import numpy as np
import pytest

from pipeline.index import METRICS_PATH, PLOT_PATH, dropped_text_warning, index
from ramengpt.config import load_config
from ramengpt.config.load import PARAMS_FILE
from ramengpt.data.index.bos_index import INDEX_FOLDER, check_index, index_path, open_offsets
from ramengpt.data.shards.format import ShardError, open_shard
from ramengpt.data.shards.manifest import read_manifest, write_manifest
from ramengpt.data.shards.store import locate_store
from tests.conftest import ROOT
from tests.data.make_shards import BOS, manifest_of, tiny_store, write_store

CONFIG = load_config(path=ROOT / PARAMS_FILE)  # of another dataset: nothing is obtained


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
    index(CONFIG)
    check_index(read_manifest())
    for shard in read_manifest().shards:
        path = index_path(shard.file, INDEX_FOLDER)
        offsets = open_offsets(path, shard.documents, shard.tokens)
        expected = np.flatnonzero(open_shard(store / shard.file) == BOS)
        assert offsets.tolist() == expected.tolist()


def test_metrics_and_plot(store):
    index(CONFIG)
    metrics = json.loads(METRICS_PATH.read_bytes())
    train = metrics["train"]
    assert (train["shards"], train["tokens"], metrics["val"]["tokens"]) == (2, 6000, 3000)
    assert train["documents"] == sum(s.documents for s in read_manifest().split("train"))
    assert train["length_tokens"]["mean"] == pytest.approx(6000 / train["documents"])
    within = train["text_within_tokens"]
    assert list(within) == ["256", "512", "1024", "2048", "4096", "8192"]
    assert 0.9 < within["256"] <= within["512"] <= within["8192"] == 1
    rows = list(csv.DictReader(PLOT_PATH.read_text().splitlines()))
    for column in ("train_percent", "val_percent"):
        assert sum(float(row[column]) for row in rows) == pytest.approx(100, abs=1e-3)
    edges = [int(row["length_tokens"]) for row in rows]
    assert edges == sorted(set(edges))


def test_the_same_input_gives_the_same_bytes(store, tmp_path):
    def outputs():
        folders = (tmp_path / "data/index", tmp_path / "results/index")
        return {path: path.read_bytes() for folder in folders for path in folder.iterdir()}

    index(CONFIG)
    first = outputs()
    index(CONFIG)
    assert outputs() == first and len(first) == 6


def test_shards_that_are_not_those_of_the_manifest_are_refused(store):
    write_store(store, {"x_train_000002.bin": [BOS] + [1] * 2999})
    with pytest.raises(ShardError, match=r"x_train_000002\.bin: sha256"):
        index(CONFIG)
    assert not INDEX_FOLDER.exists()


def test_a_text_that_would_mostly_be_dropped_is_announced(store):
    book = [BOS] + [1] * 2999
    shards = {"x_val_000000.bin": book, "x_train_000001.bin": [*book, *book]}
    write_manifest(manifest_of(write_store(store, shards), store))
    lengths = index(CONFIG)

    def warning(*overrides):
        return dropped_text_warning(lengths, load_config(overrides, ROOT / PARAMS_FILE))

    chosen = ("dataset=text", "schedule=small", "reading.text.long_documents=dropped")
    assert warning(*chosen, "schedules.small.sequence.tokens=[1024]") == (
        "warning: training reads only 34.1% of this text, the first 1024 tokens of every document "
        "(schedules.small.sequence.tokens); to read all of it, set reading.text.long_documents to "
        "split"
    )
    assert warning(*chosen, "schedules.small.sequence.tokens=[1536]") == ""
    assert warning(*chosen, "reading.text.long_documents=split") == ""
