"""The record of a store: the code that decides its shards, and whose each shard is."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.shards.provenance import Provenance, code_digest
from ramengpt.errors import UserError


def test_code_counts_by_what_it_does(tmp_path):
    file = tmp_path / "rule.py"
    file.write_text('"""A rule."""\n\nSHARE = 0.25  # of the runs\n')
    before = code_digest([file])
    file.write_text('"""The rule."""\nSHARE = 0.25\n')
    assert code_digest([file]) == before
    file.write_text('"""The rule."""\nSHARE = 0.02\n')
    assert code_digest([file]) != before


def test_a_file_of_the_user_is_never_claimed(tmp_path):
    (tmp_path / "a_train_000001.bin").write_bytes(b"theirs")
    (tmp_path / "a_train_000002.bin").symlink_to(tmp_path / "nowhere")
    provenance = Provenance(tmp_path, {"seed": 1})
    for number in (1, 2):
        with pytest.raises(UserError, match="not a file that the toolkit put there"):
            provenance.claim(f"a_train_00000{number}.bin")
    provenance.claim("a_train_000003.bin")
    (tmp_path / "a_train_000003.bin").write_bytes(b"cut sho")
    for source in ({"seed": 1}, {"seed": 2}):
        again = Provenance(tmp_path, source)
        again.claim("a_train_000003.bin")
        again.save()
        assert again.replaced == (source["seed"] == 2)


@pytest.mark.parametrize("split", ["val", "train"])
def test_the_split_of_a_shard_is_the_one_before_its_number(tmp_path, split):
    file = f"my_val_set_{split}_000001.bin"
    (tmp_path / file).write_bytes(b"tokens")
    provenance = Provenance(tmp_path, {})
    provenance.record(file)
    assert provenance.shard(file).split == split


ORIGIN = {"sha256": "00", "end": [0, 1, 2], "last": False, "counts": {"documents": 1}}
ODD = st.sampled_from([None, -1, 0.5, 10**400, "x", "\ud800", [], [1], [[]], {}, {"a": []}, True])


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_record_is_read_or_costs_a_rebuild(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("store")
    record = {"source": {}, "pinned": "", "ours": ["a"], "shards": {"a": dict(ORIGIN)}}
    place = data.draw(st.sampled_from([record, record["shards"], record["shards"]["a"]]))
    place[data.draw(st.sampled_from([*place]))] = data.draw(ODD)
    (folder / ".provenance.json").write_text(json.dumps(record))
    provenance = Provenance(folder, {})
    for origin in provenance.origins.values():
        assert min(origin.end) >= 0 and all(count >= 0 for count in origin.counts.values())
    provenance.save()


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b"9" * 5000, b"\xff", None])
def test_what_is_no_record_costs_a_rebuild(tmp_path, content):
    path = tmp_path / ".provenance.json"
    os.mkfifo(path) if content is None else path.write_bytes(content)
    assert Provenance(tmp_path, {}).origins == {}
