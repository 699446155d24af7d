"""What training and validation iterate over, on shards on disk."""

import copy
import gc
import threading

import numpy as np
import pytest
import torch

from ramengpt.data.batches.batcher import START, Batcher, BatchRequest, Cursor
from ramengpt.data.batches.indexed_split import SplitShards
from ramengpt.data.batches.loader import TrainingBatches, validation_batches
from ramengpt.data.batches.reading_order import ReadingOrder
from ramengpt.data.batches.validation_stream import ValidationStream
from ramengpt.data.index.bos_index import build_index
from ramengpt.data.shards.format import ShardError
from tests.data.make_shards import indexed, manifest_of, open_files, random_tokens, tiny_store

CPU = torch.device("cpu")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]
ORDER = ReadingOrder(shuffled=True, split=True, seed=3, piece_tokens=32)
WHOLE = 10**6
CAPACITY = 512
REQUESTS = [BatchRequest(128, 16)] * 6 + [BatchRequest(256, 32)] * 6


@pytest.fixture
def splits(tmp_path):
    """Train and validation split of a tiny dataset on disk."""
    manifest = manifest_of(tiny_store(tmp_path / "store"), tmp_path / "store")
    build_index(manifest, tmp_path / "store", tmp_path / "index")
    folders = (tmp_path / "store", tmp_path / "index")
    return SplitShards(manifest, "train", *folders), SplitShards(manifest, "val", *folders)


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_training_batches_are_the_batchers(splits, device):
    train, _ = splits
    own = Batcher(copy.copy(train), ORDER)  # shards are for one thread, and the batches have theirs
    cursor = START
    with TrainingBatches(
        train, ORDER, START, REQUESTS, device, capacity_tokens=CAPACITY, slice_tokens=WHOLE
    ) as batches:
        assert batches.cursor == START.to_json()
        for request, (batch,) in zip(REQUESTS, batches, strict=True):
            expected_3T = np.zeros((3, request.num_tokens), dtype=np.int32)
            cursor = own.fill(cursor, request.sequence_tokens, expected_3T)
            assert batch.tokens_T.device.type == device.type
            found = [part.tolist() for part in (batch.tokens_T, batch.targets_T, batch.positions_T)]
            assert found == expected_3T.tolist()
            assert batches.cursor == cursor.to_json()  # of what was consumed, not of what is ahead


@pytest.mark.parametrize("stop", [0, 1, 5, 11])
def test_going_on_from_the_cursor_gives_the_same_batches(splits, stop):
    train, _ = splits
    with TrainingBatches(
        train, ORDER, START, REQUESTS, CPU, capacity_tokens=CAPACITY, slice_tokens=WHOLE
    ) as batches:
        whole = [batch.tokens_T.tolist() for (batch,) in batches]
    with TrainingBatches(
        train, ORDER, START, REQUESTS, CPU, capacity_tokens=CAPACITY, slice_tokens=WHOLE
    ) as batches:
        first = [next(batches)[0].tokens_T.tolist() for _ in range(stop)]
        cursor = Cursor.from_json(batches.cursor)
    with TrainingBatches(
        train, ORDER, cursor, REQUESTS[stop:], CPU, capacity_tokens=CAPACITY, slice_tokens=WHOLE
    ) as batches:
        rest = [batch.tokens_T.tolist() for (batch,) in batches]
    assert first + rest == whole


def test_no_requests(splits):
    with TrainingBatches(
        splits[0], ORDER, START, [], CPU, capacity_tokens=CAPACITY, slice_tokens=WHOLE
    ) as batches:
        assert list(batches) == []


def test_nothing_to_train_on_is_said_at_once():
    with pytest.raises(ShardError, match="train split: documents"):
        TrainingBatches(
            [indexed([1, 2])],
            ORDER,
            START,
            REQUESTS,
            CPU,
            capacity_tokens=CAPACITY,
            slice_tokens=WHOLE,
        )


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("wanted,expected", [(1000, 1000), (10**7, 2999)])
def test_validation_counts_every_token_once(splits, device, wanted, expected):
    _, val = splits
    stream = ValidationStream(val, wanted)
    text = random_tokens(0, 3000)
    for _ in range(2):  # every validation starts again at the first batch
        inputs, targets = [], []
        for batch in validation_batches(stream, BatchRequest(256, 64), device):
            assert batch.tokens_T.shape == (256,) and batch.positions_T[0] == 0
            inputs += batch.tokens_T[: batch.valid_tokens].tolist()
            targets += batch.targets_T[: batch.valid_tokens].tolist()
        assert (inputs, targets) == (text[:expected], text[1 : expected + 1])


def test_a_shard_that_vanishes_reaches_training(splits, tmp_path):
    train, _ = splits
    many = [BatchRequest(500, 100)] * 40
    with TrainingBatches(
        train, ORDER, START, many, CPU, capacity_tokens=CAPACITY, slice_tokens=WHOLE
    ) as batches:
        next(batches)
        (tmp_path / "store" / "x_train_000001.bin").unlink()
        (tmp_path / "store" / "x_train_000002.bin").unlink()
        with pytest.raises(ShardError, match=r"x_train_00000\d\.bin: file: .*No such file"):
            list(batches)


def test_nothing_stays_open(splits):
    train, val = splits
    gc.collect()
    before, threads = open_files(), threading.active_count()
    with TrainingBatches(
        train, ORDER, START, REQUESTS, CPU, capacity_tokens=CAPACITY, slice_tokens=WHOLE
    ) as batches:
        (kept,) = next(batches)
        rest = validation_batches(ValidationStream(val, 1000), BatchRequest(100, 50), CPU)
        next(rest)
        rest.close()
    train.close()
    val.close()
    assert kept.tokens_T[0] == 50256
    assert open_files() == before
    assert threading.active_count() == threads
