"""A stream cut to shards: how many there are, and splits that leave enough for training."""

import re
from pathlib import Path

import pytest

from ramengpt.data.shards.provenance import Provenance
from ramengpt.data.sources.shard_plan import ShardPlan, check_split, write_missing
from ramengpt.data.text.token_stream import TokenStream, encode_batch, read_batches
from ramengpt.errors import UserError
from tests.data.text.test_token_stream import Memory


def write(plan: ShardPlan, store: Path, *texts: str) -> tuple[Provenance, list[int]]:
    provenance = Provenance(store, {})
    source = Memory([text.encode() for text in texts], 1)

    def open_stream(position):
        batches = (encode_batch(*pair) for pair in read_batches([source], position))
        return TokenStream(batches, position)

    return provenance, write_missing(plan, provenance, open_stream)


def test_a_plan_that_asks_for_too_many_shards(tmp_path):
    text = "one two three four five six seven"
    with pytest.raises(UserError, match="makes 2 train shards, train_shards is 9; set it to 2"):
        write(ShardPlan("mine", 3, 4, 9), tmp_path, text)
    assert write(ShardPlan("mine", 3, 4, 2), tmp_path, text)[1] == [0, 1, 2]
    assert write(ShardPlan("mine", 3, 4, 1), tmp_path, text)[1] == [0, 1]


@pytest.mark.parametrize("val", range(1, 16))
def test_training_gets_half_of_the_tokens_and_the_start_of_a_document(tmp_path, val):
    """Three documents of 5, 5 and 4 tokens."""
    plan = ShardPlan("mine", val, 3, None)
    texts = ["a b c d", "e f g h", "i j k"]
    if val >= 14:
        with pytest.raises(UserError, match=rf"14 tokens, and val_tokens {val} leaves 0 .* to 2 "):
            write(plan, tmp_path, *texts)
        return
    provenance, numbers = write(plan, tmp_path, *texts)
    if val > 7:
        with pytest.raises(UserError, match=rf"has 14 tokens.* {val} leaves {14 - val} of them"):
            check_split(plan, provenance, numbers)
    else:
        check_split(plan, provenance, numbers)


def test_shards_in_which_no_document_has_a_second_token(tmp_path):
    plan = ShardPlan("mine", 2, 1, None)
    with pytest.raises(UserError, match=r"set datasets\.mine\.shard_tokens to more than 1"):
        check_split(plan, *write(plan, tmp_path, "a", "b", "c"))


def test_a_single_document(tmp_path):
    plan = ShardPlan("mine", 2, 3, None)
    with pytest.raises(UserError, match=r"one document.*mine.document_separator"):
        check_split(plan, *write(plan, tmp_path, "a b c d e f g"))


@pytest.mark.parametrize("sizes", [(1, 40), (40, 1), (20, 20), (1, 1, 40), (2, 38, 2), (30, 1, 1)])
@pytest.mark.parametrize("val", [1, 2, 5, 20, 30, 40, 100])
def test_the_advice_works_when_it_is_typed(tmp_path, sizes, val):
    texts = [" ".join("a" * size) for size in sizes]

    def refused(val_tokens):
        folder = tmp_path / str(val_tokens)
        folder.mkdir()
        plan = ShardPlan("mine", val_tokens, 1000, None)
        try:
            check_split(plan, *write(plan, folder, *texts))
        except UserError as error:
            return str(error)
        return ""

    if message := refused(val):
        assert not refused(int(re.search(r"val_tokens to (\d+)", message)[1]) or 0), message
