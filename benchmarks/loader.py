"""How fast training batches come: packed on one core, and through the preloader to the device.

On one core the time is that of the CPU, which other load on the machine changes little.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.index import write_shard_like_fineweb
from benchmarks.report import Report
from ramengpt.data.batches.batcher import START, Batcher, BatchRequest
from ramengpt.data.batches.indexed_split import IndexedShard
from ramengpt.data.batches.loader import TrainingBatches
from ramengpt.data.batches.reading_order import ReadingOrder
from ramengpt.data.index.bos_index import scan_documents
from ramengpt.data.shards.format import Tokens, open_shard

BATCH_TOKENS = 131_072
BATCHES = 300
SEQUENCE_TOKENS = (64, 512, 2048)


def naive_batch(
    tokens: Tokens, starts: list[int], document: int, request: BatchRequest
) -> tuple[int, np.ndarray]:
    """The same batch with one slice per document: what a plain loop would do."""
    num_tokens, sequence_tokens = request
    batch_3T = np.empty((3, num_tokens), dtype=np.int32)
    positions = np.arange(sequence_tokens, dtype=np.int32)
    filled = 0
    while filled < num_tokens:
        start, end = starts[document], starts[document + 1]
        length = min(end - start, sequence_tokens, num_tokens - filled)
        batch_3T[0, filled : filled + length] = tokens[start : start + length]
        batch_3T[1, filled : filled + length] = tokens[start + 1 : start + length + 1]
        batch_3T[2, filled : filled + length] = positions[:length]
        filled += length
        document = (document + 1) % (len(starts) - 1)
    return document, batch_3T


def measure(report: Report) -> None:
    """The plain loop, and every reading order: packing only, and up to the device."""
    report.title(f"loader: batches of {BATCH_TOKENS} tokens, documents as long as FineWeb's")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x_train_000001.bin"
        write_shard_like_fineweb(path)
        tokens = open_shard(path)
        shards = [IndexedShard(tokens, np.concatenate(list(scan_documents(tokens))))]
        for sequence_tokens in SEQUENCE_TOKENS:
            request = BatchRequest(BATCH_TOKENS, sequence_tokens)
            rates = {"one slice per document, one core": _naive_rate(shards[0], request)}
            for shuffled, split in ((False, False), (True, False), (False, True), (True, True)):
                order = ReadingOrder(shuffled, split, 0, sequence_tokens)
                how = f"{'shuffled' if shuffled else 'sequential'}{', split' if split else ''}"
                rates[f"{how}, one core"] = _packing_rate(shards, order, request)
                rates[f"{how}, to the device"] = _device_rate(shards, order, request)
            for name, rate in rates.items():
                report.add(
                    "loader",
                    f"{name}, at most {sequence_tokens} per document",
                    million_tokens_per_second=rate / 1e6,
                )


def _packing_rate(shards: list[IndexedShard], order: ReadingOrder, request: BatchRequest) -> float:
    batcher = Batcher(shards, order)
    batch_3T = np.empty((3, request.num_tokens), dtype=np.int32)
    cursor = batcher.fill(START, request.sequence_tokens, batch_3T)
    start = time.process_time()
    for _ in range(BATCHES):
        cursor = batcher.fill(cursor, request.sequence_tokens, batch_3T)
    return BATCHES * request.num_tokens / (time.process_time() - start)


def _naive_rate(shard: IndexedShard, request: BatchRequest) -> float:
    starts, tokens = shard.offsets.tolist(), shard.tokens.view(np.ndarray)
    document, _ = naive_batch(tokens, starts, 0, request)
    start = time.process_time()
    for _ in range(BATCHES):
        document, _ = naive_batch(tokens, starts, document, request)
    return BATCHES * request.num_tokens / (time.process_time() - start)


def _device_rate(shards: list[IndexedShard], order: ReadingOrder, request: BatchRequest) -> float:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokens = request.num_tokens
    with TrainingBatches(
        shards,
        order,
        START,
        [request] * (BATCHES + 1),
        device,
        capacity_tokens=tokens,
        slice_tokens=tokens,
    ) as batches:
        next(batches)
        start = time.perf_counter()
        for _ in batches:
            pass
        if device.type == "cuda":
            torch.cuda.synchronize()
        return BATCHES * request.num_tokens / (time.perf_counter() - start)
