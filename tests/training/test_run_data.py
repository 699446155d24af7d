"""What a run says of its data before it starts."""

from ramengpt.training.run_data import epochs_line
from ramengpt.training.schedule.plan import plan_run
from tests.data.make_shards import BOS, indexed
from tests.training.schedule.test_plan import MOMENTUM, schedule


def test_epochs_count_what_documents_contribute_at_each_sequence_length() -> None:
    """Of documents of 300 and 100 tokens, 128 and 99 count, then 256 and 99."""
    shard = indexed([BOS, *[1] * 299, BOS, *[2] * 99])
    plans = plan_run(schedule(), MOMENTUM, 1)
    tokens = {
        size: sum(p.tokens for p in plans if p.sequence_tokens == size) for size in (128, 256)
    }
    assert tokens == {128: 10 * 256 + 2 * 512, 256: 8 * 512 + 10 * 1024 + 20 * 2048}
    epochs = tokens[128] / (128 + 99) + tokens[256] / (256 + 99)
    assert epochs_line([shard], plans) == (
        "data: 355 tokens an epoch, the first 256 of every document, 89% of the text; "
        f"this run reads {epochs:.3g} epochs"
    )
