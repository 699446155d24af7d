"""What a run reads: the shards of the selected dataset, checked against the manifest."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ramengpt.config import Config
from ramengpt.data.batches.batcher import check_documents, epoch_tokens
from ramengpt.data.batches.indexed_split import IndexedShard, SplitShards
from ramengpt.data.batches.reading_order import ReadingOrder
from ramengpt.data.batches.validation_stream import ValidationStream
from ramengpt.data.index.bos_index import INDEX_FILE, INDEX_FOLDER, check_index
from ramengpt.data.shards.format import VOCABULARY_SIZE
from ramengpt.data.shards.manifest import MANIFEST_PATH, read_manifest
from ramengpt.data.shards.store import locate_store
from ramengpt.data.sources.restore import restore_shards
from ramengpt.errors import UserError
from ramengpt.progress import scaled
from ramengpt.training.schedule.plan import StepPlan


@dataclass(frozen=True)
class Data:
    """The checked shards of a dataset.

    Attributes:
        train: the training split.
        validation: the first `validation.tokens` tokens of the validation split.
        data_path: DATA_PATH where it is set, else empty.
    """

    train: SplitShards
    validation: ValidationStream
    data_path: str


def data_files() -> list[Path]:
    """Files whose content identifies a run's data."""
    return [MANIFEST_PATH, INDEX_FOLDER / INDEX_FILE]


def open_data(config: Config) -> Data:
    """Check and open what the earlier stages made.

    Missing or damaged shards are downloaded or rebuilt.

    Raises:
        ShardError: the index or the manifest is missing or changed.
        UserError: the manifest is of another dataset than the selected one, a shard cannot be
            restored, or the model's vocabulary is too small.
    """
    if config.model.vocabulary < VOCABULARY_SIZE:
        raise UserError(
            f"params.yaml: models.{config.model_name}.vocabulary: expected at least the "
            f"{VOCABULARY_SIZE} tokens that shards may hold, found {config.model.vocabulary}"
        )
    manifest = read_manifest()
    if manifest.dataset != config.dataset_name:
        raise UserError(
            f"{MANIFEST_PATH}: expected the selected dataset, {config.dataset_name!r}, found "
            f"{manifest.dataset!r}; select it in params.yaml and run `dvc repro index` (or the "
            "stages download, verify and index) first"
        )
    store = locate_store(manifest.dataset)
    store.announce()
    restore_shards(config, manifest, store.folder)
    check_index(manifest)
    train = SplitShards(manifest, "train", store.folder)
    check_documents(train)  # before anything divides by their number
    val = SplitShards(manifest, "val", store.folder)
    return Data(train, ValidationStream(val, config.validation.tokens), store.data_path)


def reading_order(config: Config) -> ReadingOrder:
    """How a run reads its training split."""
    return ReadingOrder(
        shuffled=config.reading.order == "shuffled",
        split=config.reading.long_documents == "split",
        seed=config.seed,
        piece_tokens=max(config.schedule.sequence.tokens),
    )


def epochs_line(
    train: Sequence[IndexedShard], order: ReadingOrder, plans: Sequence[StepPlan]
) -> str:
    """Say how much of the text training reads, and how often: several epochs may memorise it."""
    tokens_of = Counter[int]()
    for plan in plans:
        tokens_of[plan.sequence_tokens] += plan.tokens
    available = Counter[int]()
    text_tokens = 0
    for shard in train:  # one pass: iterating memory-maps each shard
        text_tokens += shard.tokens.size
        for sequence in tokens_of:
            available[sequence] += epoch_tokens(shard, order, sequence)
    epochs = sum(tokens / available[sequence] for sequence, tokens in tokens_of.items())
    longest = max(available)
    share = available[longest] / text_tokens
    what = (
        f"all of every document, in pieces of at most {longest}"
        if order.split
        else f"the first {longest} of every document"
    )
    return (
        f"data: {scaled(available[longest], 'tokens')}/epoch ({what}: {share:.0%} of the text), "
        f"{epochs:.3g} epochs in this run"
    )
