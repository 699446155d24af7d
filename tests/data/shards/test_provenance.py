"""The record of a store: the code that decides its shards, and whose each shard is."""

import pytest

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
