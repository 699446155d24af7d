"""Tokenisation throughput, compared with plain tiktoken on the same documents in the same run.

`python -m benchmarks.tokenize [FILE.jsonl.xz ...] [--processes N]` writes the documents to one
.parquet file laid out like FineWeb's. Plain tiktoken: N processes that hold their share of the
documents in memory call `encode_ordinary` on each. Ours: read the file, tokenise in N processes,
merge in order, cut, write and flush the shards. Starting and ending the processes and loading the
encoding is not timed in either. Both take turns, and the ratio is the median over the rounds, by
CPU seconds of all processes, which other load changes little, and by the clock. Without files, the
documents are the docstrings of the standard library.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import psutil

from ramengpt.data.shards.provenance import Provenance
from ramengpt.data.sources.docstrings import docstrings_in, source_files
from ramengpt.data.sources.shard_plan import ShardPlan, write_missing
from ramengpt.data.text.input_file import InputFile
from ramengpt.data.text.parquet import ParquetFile
from ramengpt.data.text.ray_engine import merged_batches, write_with_ray
from ramengpt.data.text.readers import JsonLinesFile, RecordBatch
from ramengpt.data.text.token_stream import (
    BATCHES_AHEAD,
    TokenBatch,
    TokenStream,
    read_batches,
    text_of,
    token_batches,
)
from ramengpt.data.text.tokenizer import encode_document, gpt2_encoding

SHARD_TOKENS = 10_000_000
ROW_GROUP = 1000


def gather_texts(files: list[str], megabytes: float) -> list[str]:
    """Load the documents to measure with."""
    texts: list[str] = []
    if files:
        sources = [JsonLinesFile(InputFile.at(Path(file)), "text") for file in files]
        for _, batch in read_batches(list(sources), (0, 0, 0)):
            texts += [text_of(batch, n, record)[0] for n, record in enumerate(batch.records)]
    else:
        texts = [text for path in source_files([]) for text in docstrings_in(path.read_bytes())]
        texts *= 1 + int(megabytes * 1e6) // sum(map(len, texts))
    return [text for text in texts if text]


def write_parquet(texts: list[str], path: Path) -> int:
    """Write the documents as FineWeb does: groups of a thousand rows.

    Returns:
        Bytes of text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": texts}), path, row_group_size=ROW_GROUP)
    return sum(len(text.encode()) for text in texts)


def children_cpu_seconds() -> list[float]:
    """What each child process has used, in ascending order."""
    living = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return sorted(times.user + times.system for times in living)


@dataclass(frozen=True)
class Times:
    """What a measurement took: seconds by the clock, and of CPU in all processes."""

    seconds: float
    cpu_seconds: float

    @classmethod
    def now(cls) -> "Times":
        """The clocks as they stand; ended child processes count too."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = time.process_time() + sum(children_cpu_seconds())
        return cls(time.perf_counter(), used + ended.ru_utime + ended.ru_stime)

    def since(self, start: "Times") -> "Times":
        """The difference."""
        return Times(self.seconds - start.seconds, self.cpu_seconds - start.cpu_seconds)


def encode_share(path: Path, index: int, processes: int, ready: Barrier) -> None:
    """Hold every n-th document in memory and call tiktoken on each."""
    import pyarrow.parquet as pq

    texts = pq.read_table(path, columns=["text"]).column(0).to_pylist()[index::processes]
    encoding = gpt2_encoding()
    ready.wait()
    for text in texts:
        encoding.encode_ordinary(text)
    ready.wait()


def measure_tiktoken(path: Path, processes: int) -> Times:
    """What plain tiktoken takes."""
    context = get_context("spawn")
    ready = context.Barrier(processes + 1)
    workers = [
        context.Process(target=encode_share, args=(path, index, processes, ready))
        for index in range(processes)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    start = Times.now()
    ready.wait()
    times = Times.now().since(start)
    for worker in workers:
        worker.join()
    return times


class Primed:
    """The source after a first batch for each process, which starts them all."""

    def __init__(self, path: Path, processes: int) -> None:
        self.file = ParquetFile(InputFile.at(path), "text")
        self.processes = processes
        self.start = Times(0.0, 0.0)
        self.name = self.file.name

    def batches(self, first_record: int) -> Iterator[RecordBatch]:
        """Tiny batches until all processes have loaded the encoding and rest, then the file."""
        warm_up = RecordBatch([b"warm up"], "text", "text", "warm up", 0)
        yield from [warm_up] * (BATCHES_AHEAD * self.processes)
        before, used = [-1.0], [0.0]
        while used != before or used[0] < used[-1] / 2:
            yield warm_up
            time.sleep(0.5)
            before, used = used, children_cpu_seconds()[-self.processes :]
        self.start = Times.now()
        yield from self.file.batches(first_record)


def write_shards(
    batches: Iterator[TokenBatch], end: tuple[int, int], folder: Path
) -> tuple[Times, int]:
    """Write the shards of tokenised batches.

    Args:
        batches: ends its processes after the last one.
        end: source and number of records at which it is complete.
        folder: the store.

    Returns:
        The clocks afterwards, less what ending the processes took, and the tokens.
    """
    plan = ShardPlan("benchmark", SHARD_TOKENS // 10, SHARD_TOKENS, None)
    tokens = 0
    last = ending = Times(0.0, 0.0)

    def counted() -> Iterator[TokenBatch]:
        nonlocal tokens, last, ending
        for batch in batches:
            tokens += len(batch.tokens)
            yield batch
            if (batch.source, batch.first + len(batch.lengths)) == end:
                last = Times.now()
        ending = Times.now().since(last)

    write_missing(plan, Provenance(folder, {}), lambda start: TokenStream(counted(), start))
    return Times.now().since(ending), tokens


def measure_build(path: Path, processes: int, folder: Path) -> tuple[Times, int]:
    """What building the shards takes, and their tokens."""
    import pyarrow.parquet as pq

    source = Primed(path, processes)
    batches = token_batches([source], (0, 0, 0), processes)
    stop, tokens = write_shards(batches, (0, pq.read_metadata(path).num_rows), folder)
    return stop.since(source.start), tokens


def measure_ray(path: Path, processes: int, folder: Path) -> tuple[Times, int]:
    """The same with Ray's local workers, from the file under four names for each of them."""
    import pyarrow.parquet as pq
    import ray

    ray.init(log_to_driver=False, include_dashboard=False, num_cpus=processes)
    warm_up = ray.remote(num_cpus=1)(encode_document)
    ray.get([warm_up.remote("warm up") for _ in range(4 * processes)])
    sources = [ParquetFile(InputFile.at(path), "text")] * (4 * processes)
    end = (len(sources) - 1, pq.read_metadata(path).num_rows)
    start = Times.now()
    batches = merged_batches(sources, (0, 0, 0), folder, write_with_ray(processes))
    stop, tokens = write_shards(batches, end, folder)
    return stop.since(start), tokens


def main() -> None:
    """Print tokens/s of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", help="text files; none: docstrings")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--megabytes", type=float, default=60.0, help="of docstrings")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "documents.parquet"
        size = write_parquet(gather_texts(arguments.files, arguments.megabytes), path)
        print(f"{size / 1e6:.0f} MB of text, {arguments.processes} processes")
        ratios: list[tuple[float, float]] = []
        for number in range(arguments.rounds):
            alone = measure_tiktoken(path, arguments.processes)
            store = folder / f"store{number}"
            store.mkdir()
            ours, tokens = measure_build(path, arguments.processes, store)
            shutil.rmtree(store)
            ratios.append((alone.cpu_seconds / ours.cpu_seconds, alone.seconds / ours.seconds))
            print(
                f"plain tiktoken {tokens / alone.seconds / 1e6:.2f} M tokens/s, "
                f"shards {tokens / ours.seconds / 1e6:.2f} M tokens/s, "
                f"ratio by CPU seconds {ratios[-1][0]:.3f}, by the clock {ratios[-1][1]:.3f}",
                flush=True,
            )
        by_cpu, by_clock = (median(column) for column in zip(*ratios, strict=True))
        print(
            f"median of {arguments.rounds} rounds: ratio by CPU seconds {by_cpu:.3f}, "
            f"by the clock {by_clock:.3f}"
        )


if __name__ == "__main__":
    main()
