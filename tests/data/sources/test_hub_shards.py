"""Shards from a Hub on loopback, through the real client: whole, right, and never twice."""

import os
from pathlib import Path

import pytest

from ramengpt.config.dataset import HubShardsConfig
from ramengpt.data.sources import hub_shards
from ramengpt.data.sources.hub_shards import fetch_shards
from ramengpt.errors import UserError
from tests.data.sources.tiny_hub import FILES, FIRST, REPOSITORY, hub_settings, shard_bytes
from tests.loopback_hub import COMMIT


def dataset(train_shards: int = 2, revision: str = "main") -> HubShardsConfig:
    return HubShardsConfig(
        kind="hub_shards",
        name="tiny",
        repository=REPOSITORY,
        revision=revision,
        train_shards=train_shards,
    )


def names(store: Path) -> list[str]:
    """Shards and leftovers of downloads in a store."""
    return sorted(path.name for path in store.iterdir() if path.suffix in (".bin", ".part"))


def assert_whole(store: Path, train_shards: int = 2) -> None:
    wanted = ["tiny_val_000000.bin"]
    wanted += [f"tiny_train_{number:06d}.bin" for number in range(1, train_shards + 1)]
    assert names(store) == sorted(wanted)
    for file in wanted:
        assert (store / file).read_bytes() == FILES[file]


def test_fresh_then_nothing_is_asked_again(hub, store):
    shards = fetch_shards(dataset(), hub_settings(), store, None)
    assert [shard.file for shard in shards] == ["tiny_val_000000.bin", FIRST, FIRST[:-5] + "2.bin"]
    assert [shard.split for shard in shards] == ["val", "train", "train"]
    assert_whole(store)
    before = len(hub.requests)
    assert fetch_shards(dataset(), hub_settings(), store, None) == shards
    assert len(hub.requests) == before


def test_more_shards_fetch_only_what_is_missing_and_fewer_leave_the_rest(hub, store):
    fetch_shards(dataset(1), hub_settings(), store, None)
    fetch_shards(dataset(3), hub_settings(), store, None)
    assert len(hub.gets(FIRST)) == 1
    assert len(fetch_shards(dataset(1), hub_settings(), store, None)) == 2
    assert_whole(store, 3)


def test_a_shard_that_does_not_exist(hub, store):
    with pytest.raises(UserError, match=r"000004\.bin.*404.*has 3 train shards.*set it to 3"):
        fetch_shards(dataset(9), hub_settings(), store, None)
    assert names(store) == []


def test_shards_of_the_user_are_never_replaced(hub, store):
    theirs = shard_bytes(77)
    (store / FIRST).write_bytes(theirs)
    for redo in (None, [FIRST], []):
        with pytest.raises(UserError, match=rf"{FIRST}: not a file that the toolkit put there"):
            fetch_shards(dataset(), hub_settings(), store, redo)
        assert (store / FIRST).read_bytes() == theirs


def test_revisions(hub, store):
    fetch_shards(dataset(revision="v1"), hub_settings(), store, None)
    fetch_shards(dataset(revision=COMMIT), hub_settings(), store, None)
    assert len(hub.gets(FIRST)) == 1
    with pytest.raises(UserError, match="revision v9: no such revision"):
        fetch_shards(dataset(revision="v9"), hub_settings(), store, None)


def test_shards_that_somebody_copied_are_compared_not_fetched(hub, store):
    for file in ("tiny_val_000000.bin", FIRST):
        (store / file).write_bytes(FILES[file])
    fetch_shards(dataset(), hub_settings(), store, None)
    assert_whole(store)
    assert hub.gets("tiny_val_000000.bin") == hub.gets(FIRST) == []
    (store / FIRST).write_bytes(FILES[FIRST][:-4] + b"evil")
    fetch_shards(dataset(), hub_settings(), store, None)
    assert_whole(store)
    assert len(hub.gets(FIRST)) == 1


def test_a_shard_damaged_later_is_fetched_again(hub, store):
    fetch_shards(dataset(), hub_settings(), store, None)
    (store / FIRST).write_bytes(FILES[FIRST][:5000])
    fetch_shards(dataset(), hub_settings(), store, None)
    assert_whole(store)
    assert hub.gets("tiny_val_000000.bin") == [""]


def test_redownload_fetches_what_is_named(hub, store):
    fetch_shards(dataset(), hub_settings(), store, None)
    fetch_shards(dataset(), hub_settings(), store, [FIRST])
    assert [len(hub.gets(file)) for file in ("tiny_val_000000.bin", FIRST)] == [1, 2]
    fetch_shards(dataset(), hub_settings(), store, [])
    assert [len(hub.gets(file)) for file in ("tiny_val_000000.bin", FIRST)] == [2, 3]
    with pytest.raises(UserError, match=r"--redownload other\.bin: not a shard of this dataset"):
        fetch_shards(dataset(), hub_settings(), store, ["other.bin"])


def test_disk_space_is_checked_first(hub, store, monkeypatch):
    usage = type("Usage", (), {"free": 500_000})
    monkeypatch.setattr(hub_shards.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"903 kB are needed for 3 shards, 500 kB are free"):
        fetch_shards(dataset(), hub_settings(), store, None)
    assert hub.gets(".bin") == []


def test_without_a_network(hub, store, tmp_path):
    hub.close()
    with pytest.raises(UserError, match=r"no connection.*dataset=docstrings, which runs off"):
        fetch_shards(dataset(), hub_settings(), store, None)
    for file, content in FILES.items():
        (store / file).write_bytes(content)
    assert len(fetch_shards(dataset(), hub_settings(), store, None)) == 3
    os.truncate(store / FIRST, 3000)
    with pytest.raises(UserError, match="no connection"):
        fetch_shards(dataset(), hub_settings(), store, None)
