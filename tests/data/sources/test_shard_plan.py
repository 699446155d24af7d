"""A stream cut to shards: how many there are, and splits that leave enough for training."""

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
        with pytest.raises(UserError, match=rf"has 14 tokens, and val_tokens {val} leaves 0 .* 1 "):
            write(plan, tmp_path, *texts)
        return
    provenance, numbers = write(plan, tmp_path, *texts)
    if val > 7:
        with pytest.raises(UserError, match=rf"has 14 tokens.* {val} leaves {14 - val} of them"):
            check_split(plan, provenance, numbers)
    else:
        check_split(plan, provenance, numbers)


def test_a_single_document(tmp_path):
    plan = ShardPlan("mine", 2, 3, None)
    with pytest.raises(UserError, match=r"no document begins after the first 2 tokens.*has 1\)"):
        check_split(plan, *write(plan, tmp_path, "a b c d e f g"))
