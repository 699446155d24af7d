"""A task for each source file and a merge give the same shards as one machine does."""

import shutil

import pytest

from ramengpt.data.sources import build
from ramengpt.data.sources.build import build_from_text
from ramengpt.data.sources.text_files import open_source
from ramengpt.data.text import ray_engine
from ramengpt.errors import UserError
from tests.data.sources.text_builds import (
    local_settings,
    shards_of,
    text_config,
    write_files,
)


def in_any_order(tasks):
    """An engine that makes the last piece first."""
    for source, folder in reversed(tasks):
        ray_engine.write_piece(source, folder)
    yield from (folder for _, folder in tasks)


@pytest.fixture
def expected(tmp_path, serial):
    write_files(tmp_path / "in")
    whole = tmp_path / "whole"
    whole.mkdir()
    build_from_text(text_config(tmp_path / "in" / "*"), local_settings(), whole, 1, None)
    return shards_of(whole)


def build_with(engine, tmp_path, monkeypatch):
    store = tmp_path / "store"
    store.mkdir(exist_ok=True)
    monkeypatch.setattr(ray_engine, "READ_RECORDS", 7)
    if engine is not None:
        monkeypatch.setattr(build, "write_with_ray", lambda processes: engine)
    config = text_config(tmp_path / "in" / "*")
    far = local_settings().model_copy(update={"engine": "ray"})
    build_from_text(config, far, store, 2, None)
    return store


def test_pieces_made_in_any_order_merge_to_the_same_shards(tmp_path, expected, monkeypatch):
    store = build_with(in_any_order, tmp_path, monkeypatch)
    assert shards_of(store) == expected
    assert not (store / ".pieces").exists()


def test_resuming_after_a_kill_uses_the_pieces_that_are_there(tmp_path, expected, monkeypatch):
    def dying(tasks):
        yield ray_engine.write_piece(*tasks[0])
        yield ray_engine.write_piece(*tasks[1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_with(dying, tmp_path, monkeypatch)
    store = tmp_path / "store"
    kept = sorted((store / ".pieces").iterdir())
    assert len(kept) == 2
    finished = set(shards_of(store))
    assert finished
    assert finished < set(expected)
    stamps = {path: (path / "tokens.bin").stat().st_mtime_ns for path in kept}
    seen = {}

    def watching(tasks):
        for source, folder in tasks:
            yield ray_engine.write_piece(source, folder)
            seen[folder] = (folder / "tokens.bin").stat().st_mtime_ns

    build_with(watching, tmp_path, monkeypatch)
    assert shards_of(store) == expected
    assert all(seen[path] == stamp for path, stamp in stamps.items() if path in seen)


def test_a_half_made_piece_is_rebuilt(tmp_path, expected):
    source = open_source(tmp_path / "in" / "a.jsonl", text_config(tmp_path))
    folder = ray_engine.piece_folder(tmp_path / "store", source, 0)
    half = folder.with_name(f".{folder.name}.part")
    half.mkdir(parents=True)
    (half / "tokens.bin").write_bytes(b"half")
    ray_engine.write_piece(source, folder)
    assert sum(len(batch.lengths) for batch in ray_engine.read_piece(folder, 0, 0)) == 20
    assert not half.exists()


def test_ray_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"ray is not installed.*engine: local"):
        ray_engine.write_with_ray(2)


def test_two_ray_workers_make_the_same_shards(tmp_path, expected, monkeypatch):
    store = build_with(None, tmp_path, monkeypatch)
    assert shards_of(store) == expected
    shutil.rmtree(store)
    (tmp_path / "in" / "b.jsonl.gz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"b\.jsonl\.gz: damaged or cut short"):
        build_with(None, tmp_path, monkeypatch)
