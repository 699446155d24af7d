"""Shards from a Hub on loopback, through the real client: whole, right, and never twice."""

import os
import time
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from ramengpt.config.dataset import DownloadConfig, HubShardsConfig
from ramengpt.data.shards.format import MAGIC, ShardHeader
from ramengpt.data.sources import hub_shards
from ramengpt.data.sources.hub_client import _retry_after
from ramengpt.data.sources.hub_shards import fetch_shards
from ramengpt.errors import UserError
from tests.loopback_hub import COMMIT, Fault, LoopbackHub

REPOSITORY = "kjj0/tiny-gpt2"
TOKENS = 150_000


def shard_bytes(seed: int, tokens: int = TOKENS) -> bytes:
    values = np.random.default_rng(seed).integers(0, 50257, tokens, dtype=np.uint16)
    values[0] = 50256
    return ShardHeader(MAGIC, 1, tokens).to_bytes() + values.tobytes()


FILES = {
    "README.md": b"# tiny\n",
    "tiny_val_000000.bin": shard_bytes(0),
    **{f"tiny_train_{number:06d}.bin": shard_bytes(number) for number in range(1, 4)},
}
FIRST = "tiny_train_000001.bin"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LoopbackHub({REPOSITORY: dict(FILES)}, ("main", "v1")) as server:
        for key, value in server.environment(str(tmp_path / "home")).items():
            monkeypatch.setenv(key, value)
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


@pytest.fixture
def store(tmp_path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def dataset(train_shards: int = 2, revision: str = "main") -> HubShardsConfig:
    return HubShardsConfig(
        kind="hub_shards",
        name="tiny",
        repository=REPOSITORY,
        revision=revision,
        train_shards=train_shards,
    )


def settings(connections: int = 3, attempts: int = 3) -> DownloadConfig:
    return DownloadConfig(
        connections=connections,
        processes=1,
        attempts=attempts,
        backoff_seconds=0.01,
        timeout_seconds=5.0,
        engine="local",
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
    shards = fetch_shards(dataset(), settings(), store, None)
    assert [shard.file for shard in shards] == ["tiny_val_000000.bin", FIRST, FIRST[:-5] + "2.bin"]
    assert [shard.split for shard in shards] == ["val", "train", "train"]
    assert_whole(store)
    before = len(hub.requests)
    assert fetch_shards(dataset(), settings(), store, None) == shards
    assert len(hub.requests) == before


def test_more_shards_fetch_only_what_is_missing_and_fewer_leave_the_rest(hub, store):
    fetch_shards(dataset(1), settings(), store, None)
    fetch_shards(dataset(3), settings(), store, None)
    assert len(hub.gets(FIRST)) == 1
    assert len(fetch_shards(dataset(1), settings(), store, None)) == 2
    assert_whole(store, 3)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(status=500), Fault(status=503)],
        [Fault(drop_after=0), Fault(drop_after=70_000)],
        [Fault(content=FILES[FIRST][:-1000])],
        [Fault(content=FILES[FIRST] + b"more")],
        [Fault(content=FILES[FIRST][:-4] + b"evil")],
        [Fault(content=b"<html>" + FILES[FIRST][6:])],
    ],
    ids=["500", "dropped", "truncated", "grown", "wrong content", "wrong header"],
)
def test_what_passes_is_tried_again(hub, store, faults):
    hub.faults[FIRST] = list(faults)
    fetch_shards(dataset(), settings(), store, None)
    assert_whole(store)
    assert not hub.faults[FIRST]


def test_a_dropped_connection_goes_on_where_it_broke(hub, store):
    hub.faults[FIRST] = [Fault(drop_after=131_072)] + [Fault(drop_after=65_536)] * 2
    fetch_shards(dataset(), settings(attempts=2), store, None)
    assert hub.gets(FIRST) == ["", "bytes=131072-", "bytes=196608-", "bytes=262144-"]
    assert_whole(store)


def test_content_that_stays_wrong_is_refused_with_both_checksums(hub, store):
    hub.faults[FIRST] = [Fault(content=FILES[FIRST][:-4] + b"evil")] * 3
    with pytest.raises(UserError, match=rf"^{FIRST}: wrong content: expected sha256 \w+, found"):
        fetch_shards(dataset(), settings(), store, None)
    assert FIRST not in names(store)


def test_a_shard_that_does_not_exist(hub, store):
    with pytest.raises(UserError, match=r"000004\.bin.*404.*has 3 train shards.*set it to 3"):
        fetch_shards(dataset(9), settings(), store, None)
    assert names(store) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=401), r"needs a login.*hf auth login.*HTTP 401"),
        (Fault(status=403), r"account may not read it.*HTTP 403"),
        (Fault(status=404), r"no such dataset.*HTTP 404"),
        (Fault(status=418), r"refuses to answer.*HTTP 418"),
        (Fault(status=403, error_code="GatedRepo"), "gated.*accept its conditions"),
    ],
)
def test_repositories_that_need_a_login(hub, store, fault, message):
    hub.faults["api/revision"] = [fault]
    with pytest.raises(UserError, match=message) as caught:
        fetch_shards(dataset(), settings(), store, None)
    assert "\n" not in str(caught.value)


def test_the_hub_is_asked_again_when_it_says_so(hub, store, monkeypatch, capsys):
    waited = []
    monkeypatch.setattr("threading.Event.wait", lambda event, seconds=None: waited.append(seconds))
    hub.faults["api/revision"] = [Fault(status=429, retry_after="7")]
    fetch_shards(dataset(), settings(connections=1), store, None)
    assert 7.0 in waited
    assert "answered 429 and asks to wait 7 s" in capsys.readouterr().out


def test_dates_in_retry_after():
    assert _retry_after("12") == 12
    assert 3590 < _retry_after(formatdate(time.time() + 3600, usegmt=True)) <= 3600
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert _retry_after("soon") == _retry_after("") == 0


def test_a_part_that_the_hub_does_not_resume_starts_over(hub, store):
    hub.faults[FIRST] = [Fault(drop_after=70_000), Fault(status=416)]
    fetch_shards(dataset(), settings(connections=1), store, None)
    assert hub.gets(FIRST)[-1] == ""
    assert_whole(store)


@pytest.mark.parametrize("token", ["hf_é", "hf a", "hf_\x01"], ids=["accent", "blank", "control"])
def test_tokens_that_no_request_can_carry(hub, store, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match="copy it again from the Hub"):
        fetch_shards(dataset(), settings(), store, None)


def test_proxies_that_cannot_be_used(hub, store, monkeypatch):
    for error, message in ((ImportError("socksio"), "socksio"), (ValueError("x"), "http://host")):

        def session(error=error):
            raise error

        monkeypatch.setattr("huggingface_hub.utils.get_session", session)
        with pytest.raises(UserError, match=message):
            fetch_shards(dataset(), settings(), store, None)


def test_shards_of_the_user_are_never_replaced(hub, store):
    theirs = shard_bytes(77)
    (store / FIRST).write_bytes(theirs)
    for redo in (None, [FIRST], []):
        with pytest.raises(UserError, match=rf"{FIRST}: not a file that the toolkit put there"):
            fetch_shards(dataset(), settings(), store, redo)
        assert (store / FIRST).read_bytes() == theirs


def test_a_gated_file_is_not_tried_again(hub, store):
    hub.faults[FIRST] = [Fault(status=403, error_code="GatedRepo")]
    with pytest.raises(UserError, match="gated"):
        fetch_shards(dataset(), settings(connections=1), store, None)
    assert len(hub.gets(FIRST)) == 1


def test_revisions(hub, store):
    fetch_shards(dataset(revision="v1"), settings(), store, None)
    fetch_shards(dataset(revision=COMMIT), settings(), store, None)
    assert len(hub.gets(FIRST)) == 1
    with pytest.raises(UserError, match="revision v9: no such revision"):
        fetch_shards(dataset(revision="v9"), settings(), store, None)


def test_the_list_is_asked_for_again_after_a_500(hub, store):
    hub.faults["api/revision"] = [Fault(status=500)] * 2
    fetch_shards(dataset(), settings(), store, None)
    assert_whole(store)


def test_shards_that_somebody_copied_are_compared_not_fetched(hub, store):
    for file in ("tiny_val_000000.bin", FIRST):
        (store / file).write_bytes(FILES[file])
    fetch_shards(dataset(), settings(), store, None)
    assert_whole(store)
    assert hub.gets("tiny_val_000000.bin") == hub.gets(FIRST) == []
    (store / FIRST).write_bytes(FILES[FIRST][:-4] + b"evil")
    fetch_shards(dataset(), settings(), store, None)
    assert_whole(store)
    assert len(hub.gets(FIRST)) == 1


def test_a_shard_damaged_later_is_fetched_again(hub, store):
    fetch_shards(dataset(), settings(), store, None)
    (store / FIRST).write_bytes(FILES[FIRST][:5000])
    fetch_shards(dataset(), settings(), store, None)
    assert_whole(store)
    assert hub.gets("tiny_val_000000.bin") == [""]


def test_redownload_fetches_what_is_named(hub, store):
    fetch_shards(dataset(), settings(), store, None)
    fetch_shards(dataset(), settings(), store, [FIRST])
    assert [len(hub.gets(file)) for file in ("tiny_val_000000.bin", FIRST)] == [1, 2]
    fetch_shards(dataset(), settings(), store, [])
    assert [len(hub.gets(file)) for file in ("tiny_val_000000.bin", FIRST)] == [2, 3]
    with pytest.raises(UserError, match=r"--redownload other\.bin: not a shard of this dataset"):
        fetch_shards(dataset(), settings(), store, ["other.bin"])


def test_disk_space_is_checked_first(hub, store, monkeypatch):
    usage = type("Usage", (), {"free": 500_000})
    monkeypatch.setattr(hub_shards.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"903 kB are needed for 3 shards, 500 kB are free"):
        fetch_shards(dataset(), settings(), store, None)
    assert hub.gets(".bin") == []


def test_without_a_network(hub, store, tmp_path):
    hub.close()
    with pytest.raises(UserError, match=r"no connection.*dataset=docstrings, which runs off"):
        fetch_shards(dataset(), settings(), store, None)
    for file, content in FILES.items():
        (store / file).write_bytes(content)
    assert len(fetch_shards(dataset(), settings(), store, None)) == 3
    os.truncate(store / FIRST, 3000)
    with pytest.raises(UserError, match="no connection"):
        fetch_shards(dataset(), settings(), store, None)
