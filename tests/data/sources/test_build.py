"""Shards from text: exact cuts, counts, resumption, the same bytes however they are made."""

import gzip
import json
import lzma
import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ramengpt.data.shards.format import open_shard
from ramengpt.data.shards.provenance import Provenance
from ramengpt.data.sources import build, shard_plan
from ramengpt.data.sources.build import build_from_text
from ramengpt.data.text import readers
from ramengpt.data.text.tokenizer import gpt2_encoding
from ramengpt.errors import UserError
from tests.data.conftest import tokenise_here
from tests.data.sources.text_builds import (
    built,
    lines_of,
    local_settings,
    make_texts,
    reference_tokens,
    shards_of,
    text_config,
    write_files,
)


def test_every_kind_of_file_cut_exactly(tmp_path, store, serial):
    stream = reference_tokens(write_files(tmp_path / "in"))
    config = text_config(tmp_path / "in" / "*")
    shards = built(config, local_settings(), store, 1, None)
    lengths = [shard.bytes // 2 - 512 for shard in shards]
    assert lengths[:-1] == [100] + [300] * (len(lengths) - 2)
    assert 0 < lengths[-1] <= 300
    found = np.concatenate([open_shard(store / shard.file) for shard in shards])
    assert np.array_equal(found, stream)
    before = shards_of(store)
    stamps = [path.stat().st_mtime_ns for path in sorted(store.glob("*.bin"))]
    assert built(config, local_settings(), store, 1, None) == shards
    assert stamps == [path.stat().st_mtime_ns for path in sorted(store.glob("*.bin"))]
    assert before == shards_of(store)


def test_two_processes_make_the_same_bytes(tmp_path, store, monkeypatch):
    write_files(tmp_path / "in")
    config = text_config(tmp_path / "in" / "*")
    with monkeypatch.context() as patch:
        patch.setattr(build, "token_batches", tokenise_here)
        built(config, local_settings(), store, 1, None)
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr(readers, "BATCH_BYTES", 500)
    built(config, local_settings(), other, 2, None)
    assert shards_of(other) == shards_of(store)


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_a_killed_build_resumes_without_redoing_finished_shards(
    tmp_path, store, serial, monkeypatch, after
):
    write_files(tmp_path / "in")
    config = text_config(tmp_path / "in" / "*")
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = built(config, local_settings(), whole, 1, None)
    made: list[str] = []
    original = shard_plan._write_shard

    def breaking(plan, number, *rest):
        if len(made) == after:
            raise BrokenError
        made.append(plan.file(number))
        return original(plan, number, *rest)

    monkeypatch.setattr(shard_plan, "_write_shard", breaking)
    with pytest.raises(BrokenError):
        built(config, local_settings(), store, 1, None)
    monkeypatch.setattr(shard_plan, "_write_shard", original)
    stamps = {file: (store / file).stat().st_mtime_ns for file in made}
    assert built(config, local_settings(), store, 1, None) == expected
    assert stamps == {file: (store / file).stat().st_mtime_ns for file in made}
    assert shards_of(store) == shards_of(whole)
    counts = [Provenance(folder, {}) for folder in (store, whole)]
    assert counts[0].origins == counts[1].origins
    records = [json.loads((folder / ".provenance.json").read_bytes()) for folder in (store, whole)]
    assert records[0] == records[1]


def test_a_damaged_shard_in_the_middle_is_rebuilt_by_itself(tmp_path, store, serial):
    write_files(tmp_path / "in")
    config = text_config(tmp_path / "in" / "*")
    built(config, local_settings(), store, 1, None)
    before = shards_of(store)
    damaged = store / "mine_train_000003.bin"
    untouched = (store / "mine_train_000002.bin").stat().st_mtime_ns
    damaged.write_bytes(damaged.read_bytes()[:-2] + b"\0\0")
    built(config, local_settings(), store, 1, None)
    assert shards_of(store) == before
    assert (store / "mine_train_000002.bin").stat().st_mtime_ns == untouched
    built(config, local_settings(), store, 1, ["mine_train_000001.bin"])
    assert shards_of(store) == before
    assert (store / "mine_train_000002.bin").stat().st_mtime_ns == untouched


def test_changed_text_or_cut_rebuilds_all(tmp_path, store, serial):
    write_files(tmp_path / "in")
    built(text_config(tmp_path / "in" / "*"), local_settings(), store, 1, None)
    (tmp_path / "in" / "a.jsonl").write_bytes(lines_of(["another text " * 80]))
    built(text_config(tmp_path / "in" / "*"), local_settings(), store, 1, None)
    expected = reference_tokens(["another text " * 80])[:100]
    assert np.array_equal(open_shard(store / "mine_val_000000.bin"), expected)
    shards = built(text_config(tmp_path / "in" / "*", val=50), local_settings(), store, 1, None)
    assert shards[0].bytes == 1024 + 100


def test_strange_documents_are_handled_and_counted(tmp_path, store, serial, capsys):
    long = "word " * 30_000
    good = ["first", "", None, "\ud800 lone", long, "<|endoftext|>", "   ", "last " * 200]
    path = tmp_path / "in.jsonl"
    path.write_bytes(lines_of(good) + b"\n" + b'{"text": "bad \xff byte"}\n')
    shards = built(text_config(path, val=20, shard=10**6), local_settings(), store, 1, None)
    texts = ["first", "\ufffd lone", long, "<|endoftext|>", "   ", "last " * 200, "bad \ufffd byte"]
    found = np.concatenate([open_shard(store / shard.file) for shard in shards])
    assert np.array_equal(found, reference_tokens(texts))
    line = "documents 7, empty 2, null 1, invalid utf8 2, long 1"
    assert line in capsys.readouterr().out


def test_a_huge_txt_file_is_one_document_read_in_parts(tmp_path, store, serial, monkeypatch):
    monkeypatch.setattr(readers, "PART_BYTES", 1000)
    text = " ".join(make_texts(400, 9)) + "\n\n" + "é" * 3000 + " end"
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.txt").write_text("")
    (tmp_path / "c.txt").write_bytes(b"ends in half a character \xc3")
    paths = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    shards = built(text_config(*paths), local_settings(), store, 1, None)
    found = np.concatenate([open_shard(store / shard.file) for shard in shards]).tolist()
    starts = [index for index, token in enumerate(found) if token == 50256]
    assert len(starts) == 2
    assert found[1 : starts[1]] == gpt2_encoding().encode_ordinary(text)


def test_parquet_with_nulls_and_invalid_utf8(tmp_path, store, serial, capsys):
    values = pa.array([b"one", None, b"bad \xff", b"", b"five " * 60], pa.binary())
    column = pa.Array.from_buffers(pa.string(), len(values), values.buffers())
    pq.write_table(pa.table({"text": column}), tmp_path / "in.parquet")
    config = text_config(tmp_path / "in.parquet", val=4)
    shards = built(config, local_settings(), store, 1, None)
    found = np.concatenate([open_shard(store / shard.file) for shard in shards])
    assert np.array_equal(found, reference_tokens(["one", "bad \ufffd", "five " * 60]))
    assert "documents 3, empty 1, null 1, invalid utf8 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl, line 2: not valid JSON"),
        ("a.jsonl", b'{"body": "x"}\n', r"line 1: expected an object with 'text', found keys body"),
        ("a.jsonl", b'{"text": 3}\n', r"line 1: 'text': expected a string or null, found a number"),
        ("a.jsonl", b"[1]\n", r"line 1: expected a JSON object .*found an array.*jq"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 99)[:-9], r"damaged or cut short"),
        ("a.jsonl.xz", lzma.compress(b'{"text": "x"}\n' * 99)[:-9], r"damaged or cut short"),
        ("a.jsonl.zst", b"no archive", r"damaged or cut short"),
        ("a.parquet", b"no parquet", r"not a whole \.parquet file"),
        ("a.csv", b"x", r"a\.csv: expected one of \.txt, \.jsonl"),
        (
            "a.txt",
            b"short",
            r"mine: the text is one document, .*set datasets\.mine\.document_separator",
        ),
    ],
    ids=[
        "broken JSON",
        "other keys",
        "number for text",
        "array",
        "cut gz",
        "cut xz",
        "no zst",
        "no parquet",
        "csv",
        "short txt",
    ],
)
@pytest.mark.usefixtures("serial")
def test_what_cannot_be_read_is_named(tmp_path, store, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        built(text_config(tmp_path / name), local_settings(), store, 1, None)
    assert "\n" not in str(caught.value)
    assert shards_of(store) == {} or name == "a.txt"


@pytest.mark.usefixtures("serial")
def test_one_document_cannot_be_split(tmp_path, store):
    (tmp_path / "a.txt").write_text("one long document " * 200)
    with pytest.raises(UserError, match=r"the text is one document"):
        built(text_config(tmp_path / "a.txt"), local_settings(), store, 1, None)
    (tmp_path / "a.txt").write_text("one of two documents\n---\n" * 200)
    config = text_config(tmp_path / "a.txt", separator="---")
    found = np.concatenate(
        [open_shard(store / s.file) for s in built(config, local_settings(), store, 1, None)]
    )
    assert np.array_equal(found, reference_tokens(["one of two documents\n"] * 200))


@pytest.mark.usefixtures("serial")
def test_validation_takes_at_most_half(tmp_path, store):
    (tmp_path / "a.jsonl").write_bytes(lines_of(["five tokens or so"] * 30))
    with pytest.raises(UserError, match=r"150 tokens, and val_tokens 100 leaves 50.*to 15"):
        built(text_config(tmp_path / "a.jsonl"), local_settings(), store, 1, None)
    assert (
        len(built(text_config(tmp_path / "a.jsonl", val=75), local_settings(), store, 1, None)) == 2
    )


@pytest.mark.usefixtures("serial")
def test_a_text_without_documents(tmp_path, store):
    (tmp_path / "a.jsonl").write_bytes(lines_of([None, ""]))
    with pytest.raises(UserError, match="the text holds no document"):
        built(text_config(tmp_path / "a.jsonl"), local_settings(), store, 1, None)


@pytest.mark.usefixtures("serial")
def test_what_was_read_and_left_out_is_reported(tmp_path, store, capsys, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    folder = tmp_path / "in"
    write_files(folder)
    (folder / ".DS_Store").write_bytes(b"\0\1")
    (folder / "g.txt").symlink_to(folder / "a.jsonl")
    (folder / "h.txt").write_bytes("Latin-1: é".encode("latin-1"))
    shards, report = build_from_text(text_config(folder / "*"), local_settings(), store, 1, None)
    assert report["read"] == [
        f"in/{name}"
        for name in (
            "a.jsonl",
            "b.jsonl.gz",
            "c.jsonl.xz",
            "d.jsonl.zst",
            "e.parquet",
            "f.txt",
            "h.txt",
        )
    ]
    assert report["left_out"] == [
        {"path": "in/.DS_Store", "reason": "hidden"},
        {"path": "in/g.txt", "reason": "the same file as in/a.jsonl"},
    ]
    assert report["counts"]["documents"] == 102
    assert report["counts"]["invalid_utf8"] == 1
    said = capsys.readouterr().out
    assert "read 7 sources; documents 102" in said
    assert "left out 2: in/.DS_Store (hidden)" in said
    assert re.search(r"not valid UTF-8.*in/h\.txt", said)
    again = build_from_text(text_config(folder / "*"), local_settings(), store, 1, None)
    assert again == (shards, report)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("change", ["grow", "touch", "vanish", "appear"])
def test_a_file_that_changes_before_the_end_is_named(tmp_path, store, monkeypatch, change):
    write_files(tmp_path / "in")
    first = tmp_path / "in" / "a.jsonl"
    last = tmp_path / "in" / "z.jsonl"
    original = shard_plan._write_shard

    def writing(plan, number, *rest):
        if number == 3 and change == "grow":
            first.write_bytes(first.read_bytes() + lines_of(["more"]))
        elif number == 3 and change == "touch":
            os.utime(first, ns=(1, 1))
        elif number == 3 and change == "appear":
            last.write_bytes(lines_of(["more"]))
        elif number == 3:
            first.unlink()
        return original(plan, number, *rest)

    monkeypatch.setattr(shard_plan, "_write_shard", writing)
    expected = {"vanish": r"a\.jsonl: vanished after", "appear": r"z\.jsonl: appeared while"}.get(
        change, r"a\.jsonl: changed while it was read"
    )
    with pytest.raises(UserError, match=expected):
        built(text_config(tmp_path / "in" / "*"), local_settings(), store, 1, None)


@pytest.mark.usefixtures("serial")
def test_shards_that_somebody_else_made_are_left_alone(tmp_path, store):
    write_files(tmp_path / "in")
    theirs = store / "mine_train_000002.bin"
    theirs.write_bytes(b"the work of years")
    for _ in range(2):
        with pytest.raises(UserError, match=r"000002\.bin: not a file that the toolkit put there"):
            built(text_config(tmp_path / "in" / "*"), local_settings(), store, 1, None)
        assert theirs.read_bytes() == b"the work of years"
    theirs.unlink()
    built(text_config(tmp_path / "in" / "*"), local_settings(), store, 1, None)
    theirs.write_bytes(b"damaged")
    built(text_config(tmp_path / "in" / "*", val=50), local_settings(), store, 1, None)
    assert theirs.read_bytes() != b"damaged"
