"""Lost and damaged shards come back as the manifest has them, or one line says what to run."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from ramengpt.config import Config, load_config
from ramengpt.config.load import PARAMS_FILE
from ramengpt.data.shards.format import ShardError
from ramengpt.data.shards.manifest import Manifest
from ramengpt.data.sources import obtain
from ramengpt.data.sources.obtain import locked_store, obtain_shards
from ramengpt.data.sources.restore import restore_shards
from ramengpt.errors import UserError
from tests.conftest import ROOT
from tests.data.make_shards import manifest_of, tiny_store

OVERRIDES = (
    "dataset=text",
    "datasets.text.paths=['text/*.txt']",
    "datasets.text.val_tokens=200",
    "datasets.text.shard_tokens=500",
    "download.processes=1",
)


class Prepared:
    """A verified dataset made from small text files."""

    def __init__(self, folder: Path) -> None:
        (folder / "text").mkdir()
        for number in range(20):
            text = f"Document {number}. " + f"Some words of {number}. " * 10
            (folder / "text" / f"{number:02}.txt").write_text(text)
        self.config: Config = load_config(OVERRIDES, ROOT / PARAMS_FILE)
        self.store = folder / "shards"
        with locked_store(self.store):
            record = obtain_shards(self.config, self.store, None)
        self.manifest: Manifest = manifest_of(record, self.store)
        assert len(self.manifest.shards) > 2

    def restore(self) -> None:
        restore_shards(self.config, self.manifest, self.store)

    def checksums(self) -> dict[str, str]:
        paths = sorted(self.store.glob("*.bin"))
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    def expected(self) -> dict[str, str]:
        return {shard.file: shard.sha256 for shard in self.manifest.shards}


@pytest.fixture
def prepared(tmp_path, monkeypatch) -> Prepared:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return Prepared(tmp_path)


def lose_all(store: Path) -> None:
    for path in store.iterdir():
        path.unlink()


def lose_one(store: Path) -> None:
    (store / "text_train_000001.bin").unlink()


def damage_one(store: Path) -> None:
    path = store / "text_train_000001.bin"
    content = bytearray(path.read_bytes())
    content[1100] ^= 1
    path.write_bytes(content)


def cut_one(store: Path) -> None:
    path = store / "text_val_000000.bin"
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize("harm", [lose_all, lose_one, damage_one, cut_one])
def test_what_is_lost_or_damaged_comes_back(prepared, capsys, harm):
    harm(prepared.store)
    prepared.restore()
    assert prepared.checksums() == prepared.expected()
    lines = [line for line in capsys.readouterr().out.splitlines() if "obtained again" in line]
    count = len(prepared.manifest.shards) if harm is lose_all else 1
    assert len(lines) == 1 and f"text: {count} of {len(prepared.manifest.shards)}" in lines[0]


def test_nothing_is_obtained_where_nothing_is_wrong(prepared, monkeypatch):
    monkeypatch.setattr(obtain, "obtain_shards", None)
    prepared.restore()


@pytest.mark.parametrize("attempt", ["first", "second"])
def test_a_source_that_changed_is_said_in_one_line_each_time(prepared, attempt):
    lose_one(prepared.store)
    Path("text/00.txt").write_text("Another document. " * 40)
    for _ in range(1 + (attempt == "second")):
        with pytest.raises(UserError) as caught:
            prepared.restore()
    line = str(caught.value)
    assert "\n" not in line and "source has changed since; run `dvc repro -f index`" in line
    assert str(prepared.store) in line


def test_shards_of_another_dataset_than_the_selected_one_are_only_refused(prepared, tmp_path):
    store = tmp_path / "tiny"
    manifest = replace(manifest_of(tiny_store(store), store), dataset="tiny")
    (store / "x_train_000001.bin").unlink()
    with pytest.raises(ShardError, match=r"x_train_000001.bin: file: .*--redownload"):
        restore_shards(prepared.config, manifest, store)
