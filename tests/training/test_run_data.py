"""What a run says of its data before it starts."""

from ramengpt.config import load_config
from ramengpt.data.batches.reading_order import ReadingOrder
from ramengpt.training.run_data import epochs_line, reading_order
from ramengpt.training.schedule.plan import plan_run
from tests.data.make_shards import BOS, indexed
from tests.training.schedule.test_plan import MOMENTUM, schedule


def test_epochs_count_what_documents_contribute_at_each_sequence_length() -> None:
    """Of documents of 300 and 100 tokens, 128 and 99 count, then 256 and 99."""
    shard = indexed([BOS, *[1] * 299, BOS, *[2] * 99])
    plans = plan_run(schedule(), MOMENTUM)
    tokens = {
        size: sum(p.tokens for p in plans if p.sequence_tokens == size) for size in (128, 256)
    }
    assert tokens == {128: 10 * 256 + 2 * 512, 256: 8 * 512 + 10 * 1024 + 20 * 2048}
    epochs = tokens[128] / (128 + 99) + tokens[256] / (256 + 99)
    dropped = ReadingOrder(shuffled=False, split=False, seed=0, piece_tokens=256)
    assert epochs_line([shard], dropped, plans) == (
        "data: 355 tokens/epoch (the first 256 of every document: 89% of the text), "
        f"{epochs:.3g} epochs in this run"
    )


def test_a_split_text_is_read_whole() -> None:
    shard = indexed([BOS, *[1] * 299, BOS, *[2] * 99])
    plans = plan_run(schedule(), MOMENTUM)
    epochs = sum(plan.tokens for plan in plans) / 399
    split = ReadingOrder(shuffled=True, split=True, seed=0, piece_tokens=256)
    assert epochs_line([shard], split, plans) == (
        "data: 399 tokens/epoch (all of every document, in pieces of at most 256: 100% of the "
        f"text), {epochs:.3g} epochs in this run"
    )


def test_the_order_follows_from_the_parameters() -> None:
    changes = ("dataset=text", "schedule=small", "seed=5")
    config = load_config(
        [*changes, "reading.text.order=shuffled", "reading.text.long_documents=split"]
    )
    longest = max(config.schedule.sequence.tokens)
    assert reading_order(config) == ReadingOrder(True, True, 5, longest)
    config = load_config(
        [*changes, "reading.text.order=sequential", "reading.text.long_documents=dropped"]
    )
    assert reading_order(config) == ReadingOrder(False, False, 5, longest)
