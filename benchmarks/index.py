"""How fast documents are found, compared with simpler passes over the same bytes.

A shard of 100 million tokens with documents as long as FineWeb's, in the page cache.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.report import Report
from ramengpt.data.index.bos_index import index_path, index_shard, scan_documents
from ramengpt.data.shards.format import BOS_TOKEN, ShardWriter, Tokens, open_shard

SHARD_TOKENS = 100_000_000
PIECE_TOKENS = 10_000_000
REPEATS = 9
PEAK_MEMORY = """
import sys
from pathlib import Path
from ramengpt.data.index.bos_index import index_shard
index_shard(Path(sys.argv[1]), Path(sys.argv[2]))
status = Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""


def write_shard_like_fineweb(path: Path, num_tokens: int = SHARD_TOKENS) -> None:
    """Write random text; document lengths are log-normal with mean 700 and median 400 tokens."""
    random = np.random.default_rng(0)
    with ShardWriter(path) as writer:
        while writer.num_tokens < num_tokens:
            tokens = random.integers(0, BOS_TOKEN, PIECE_TOKENS, dtype=np.uint16)
            lengths = random.lognormal(np.log(400), 1.06, PIECE_TOKENS // 400).astype(np.int64)
            starts = np.cumsum(lengths + 1)
            tokens[0] = BOS_TOKEN
            tokens[starts[starts < PIECE_TOKENS]] = BOS_TOKEN
            writer.write(tokens[: num_tokens - writer.num_tokens])


def best_seconds(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Shortest of several interleaved runs: other load on the machine only adds time."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(REPEATS):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def read_file(path: Path) -> None:
    """Read a whole file into a small buffer, as fast as the kernel delivers it."""
    buffer = bytearray(2**20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def scan(tokens: Tokens) -> None:
    """Find every document, and discard the offsets."""
    for _ in scan_documents(tokens):
        pass


def measure(report: Report) -> None:
    """Compare plain reading, passes of numpy, the scan, and the scan written to disk."""
    report.title("index: 100 million tokens (200 MB), in the page cache")
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "x_train_000001.bin"
        write_shard_like_fineweb(shard)
        path = index_path(shard.name, Path(folder))
        passes: dict[str, Callable[[], object]] = {
            "plain read of the file": lambda: read_file(shard),
            "numpy: tokens == BOS, counted": lambda: np.count_nonzero(
                open_shard(shard) == BOS_TOKEN
            ),
            "numpy: tokens == BOS, offsets": lambda: np.flatnonzero(open_shard(shard) == BOS_TOKEN),
            "scan_documents": lambda: scan(open_shard(shard)),
            "index_shard, .npy flushed to disk": lambda: index_shard(shard, path),
        }
        seconds = best_seconds(passes)
        one_pass = seconds["numpy: tokens == BOS, counted"]
        for name, taken in seconds.items():
            report.add(
                "index",
                name,
                milliseconds=1e3 * taken,
                gigabytes_per_second=shard.stat().st_size / taken / 1e9,
                times_one_pass=taken / one_pass,
            )
        command = [sys.executable, "-c", PEAK_MEMORY, str(shard), str(path)]
        kilobytes = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        report.add("index", "peak memory of a process", megabytes=kilobytes * 1024 / 1e6)
