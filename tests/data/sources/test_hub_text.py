"""Raw text on the Hub, from a local copy laid out like FineWeb."""

from pathlib import Path

import numpy as np
import pytest

from ramengpt.config.dataset import HubTextConfig
from ramengpt.data.shards.format import open_shard
from ramengpt.data.sources.hub_text import open_hub_text
from ramengpt.errors import UserError
from tests.data.sources.text_builds import (
    built,
    fineweb_like,
    lines_of,
    local_settings,
    make_texts,
    reference_tokens,
)


def local_copy(folder: Path, name: str, subset: str, train_shards: int) -> HubTextConfig:
    return HubTextConfig(
        kind="hub_text",
        name=name,
        repository=str(folder),
        subset=subset,
        revision="main",
        text_field="text",
        val_tokens=2000,
        shard_tokens=3000,
        train_shards=train_shards,
    )


def test_raw_fineweb_from_a_local_copy(tmp_path, store, serial, monkeypatch):
    # Not by the environment: the libraries read it once, for all tests that follow.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    texts = make_texts(600, 3)
    copy = tmp_path / "copy"
    for name, content in fineweb_like(tmp_path, texts).items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)

    def config(train_shards: int) -> HubTextConfig:
        return local_copy(copy, "fineweb", "sample-10BT", train_shards)

    built(config(1), local_settings(), store, 1, None)
    val_stamp = (store / "fineweb_val_000000.bin").stat().st_mtime_ns
    shards = built(config(4), local_settings(), store, 1, None)
    found = np.concatenate([open_shard(store / shard.file) for shard in shards])
    assert np.array_equal(found, reference_tokens(texts)[:14_000])
    assert (store / "fineweb_val_000000.bin").stat().st_mtime_ns == val_stamp
    with pytest.raises(UserError, match=r"makes \d train shards, train_shards is 99"):
        built(config(99), local_settings(), store, 1, None)


def test_a_repository_of_json_lines_is_one_line_that_says_so(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(lines_of(["one", "two"]))
    config = local_copy(tmp_path, "lines", "default", train_shards=1)
    with pytest.raises(UserError, match=r"not Parquet.* use dataset=text") as refusal:
        open_hub_text(config, "main")
    assert "\n" not in str(refusal.value) and str(refusal.value).startswith(str(tmp_path))
