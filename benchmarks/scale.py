"""What large data costs: disk, and CPU time of tokenising, verify, index and the start of training.

    python -m benchmarks.scale --shards 103,1030

Writes one shard of 100 million tokens with documents as long as FineWeb's and gives it many names:
1,030 shards (FineWeb100B, 206 GB) take 200 MB of disk and come from the page cache, so a slow disk
adds to these figures. Each stage runs in its own process, whose seconds, CPU seconds and peak
resident memory are printed. Then prints the table of docs/scale.md, in CPU seconds, which a busy
machine changes little. Every figure in it is one of these, or a speed of training that is given on
the command line, times the number of tokens.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.index import SHARD_TOKENS, write_shard_like_fineweb
from benchmarks.tokenize import gather_texts, measure_build, measure_ray, write_parquet
from ramengpt.config import load_config
from ramengpt.data.shards.checksums import file_sha256
from ramengpt.data.shards.format import shard_filename
from ramengpt.data.shards.manifest import DownloadedShard, DownloadRecord, write_download_record
from ramengpt.model.cost import flops_per_token

PROJECT = Path(__file__).resolve().parents[1]
BILLIONS_OF_TOKENS = (1, 10, 100, 1000)
TEXT_MEGABYTES = 60.0
PROCESSES = 2
DATASET = "fineweb100B"
STAGE = """
import time
from ramengpt.config import load_config
{imports}
config = load_config(["dataset=fineweb100B"])
start = time.perf_counter(), time.process_time()
{work}
seconds, cpu_seconds = time.perf_counter() - start[0], time.process_time() - start[1]
peak = open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]
print("measured", seconds, cpu_seconds, int(peak) * 1024 / 1e9)
"""
START = """
data = open_data(config)
order = reading_order(config)
epochs_line(data.train, order, plans_of(config, RunOptions(None, None)))
longest = order.piece_tokens
requests = [BatchRequest(config.schedule.micro_batch_tokens, longest)]
cpu, whole = torch.device("cpu"), requests[0].num_tokens
with TrainingBatches(
    data.train, order, FIRST, requests, cpu, capacity_tokens=whole, slice_tokens=whole
) as batches:
    next(batches)
"""
STAGES = {
    "verify": ("from pipeline.verify import verify", "verify(config.dataset_name)"),
    "index": ("from pipeline.index import index, load_config", "index(load_config())"),
    "start": (
        "import torch\n"
        "from ramengpt.data.batches.batcher import START as FIRST, BatchRequest\n"
        "from ramengpt.data.batches.loader import TrainingBatches\n"
        "from ramengpt.training.run_data import epochs_line, open_data, reading_order\n"
        "from ramengpt.training.session.settings import RunOptions, plans_of",
        START,
    ),
}


def prepare(folder: Path, num_shards: int, shard_tokens: int) -> int:
    """Make a project with a download record and a store of one shard under many names.

    Returns:
        Bytes of a shard.
    """
    store = folder / "data" / "shards" / DATASET
    store.mkdir(parents=True)
    (folder / "params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())
    first = store / shard_filename("fineweb", "val", 0)
    write_shard_like_fineweb(first, shard_tokens)
    size, sha256 = first.stat().st_size, file_sha256(first)
    names = [shard_filename("fineweb", "train", number) for number in range(1, num_shards)]
    for name in names:
        (store / name).hardlink_to(first)
    val = DownloadedShard(first.name, "val", size, sha256)
    train = (DownloadedShard(name, "train", size, sha256) for name in names)
    write_download_record(DownloadRecord(DATASET, (val, *train)), folder / "data" / "download.json")
    return size


def run_stage(stage: str, folder: Path) -> dict[str, float]:
    """Run a stage in a process of its own: its seconds, and gigabytes at its peak."""
    imports, work = STAGES[stage]
    environment = {key: value for key, value in os.environ.items() if key != "DATA_PATH"}
    done = subprocess.run(
        [sys.executable, "-c", STAGE.format(imports=imports, work=work)],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(PROJECT)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    names = (f"{stage}_seconds", f"{stage}_cpu_seconds", f"{stage}_peak_gigabytes")
    figures = done.stdout.rpartition("measured")[2].split()
    return dict(zip(names, map(float, figures), strict=True))


def measure(num_shards: int, shard_tokens: int) -> dict[str, float]:
    """What each stage takes, and gigabytes of shards and index on disk."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        figures["shard_gigabytes"] = num_shards * prepare(folder, num_shards, shard_tokens) / 1e9
        for stage in STAGES:
            figures |= run_stage(stage, folder)
        index = (folder / "data/index").iterdir()
        figures["index_gigabytes"] = sum(path.stat().st_size for path in index) / 1e9
    return figures


def gpu_rates(measured: dict[str, float]) -> dict[str, float]:
    """Tokens/s of each preset; that of `medium` estimated from `small`'s by FLOP/token."""
    rates = dict(measured)
    flops = {}
    for preset in ("small", "medium"):
        config = load_config([f"model={preset}", f"schedule={preset}"], PROJECT / "params.yaml")
        flops[preset] = flops_per_token(
            config.network,
            sequence_tokens=max(config.schedule.sequence.tokens),
            window_tokens=config.schedule.window.validation_tokens,
        )
    rates["medium"] = rates["small"] * flops["small"] / flops["medium"]
    return rates


def tokenize_rates() -> dict[str, float]:
    """Tokens of docstrings per CPU second: shards by local processes, and by Ray's."""
    engines = {"one machine": measure_build, "Ray": measure_ray}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "documents.parquet"
        write_parquet(gather_texts([], TEXT_MEGABYTES), path)
        rates = {}
        for engine, measure_engine in engines.items():
            store = Path(temporary) / engine
            store.mkdir()
            times, tokens = measure_engine(path, PROCESSES, store)
            rates[engine] = tokens / times.cpu_seconds
    return rates


def table(figures: dict[str, float], measured_tokens: int, rates: dict[str, float]) -> str:
    """The table of docs/scale.md."""
    lines = ["| | " + " | ".join(f"{billions:,} billion" for billions in BILLIONS_OF_TOKENS) + " |"]
    lines.append("| --- |" + " ---: |" * len(BILLIONS_OF_TOKENS))

    def row(name: str, per_token: float) -> None:
        values = (per_token * billions * 1e9 for billions in BILLIONS_OF_TOKENS)
        lines.append(f"| {name} | " + " | ".join(f"{value:,.3g}" for value in values) + " |")

    disk = figures["shard_gigabytes"] + figures["index_gigabytes"]
    row("disk, shards and index, GB", disk / measured_tokens)
    for engine, rate in tokenize_rates().items():
        row(f"tokenise with {engine}, CPU hours", 1 / rate / 3600)
    for stage in STAGES:
        row(f"{stage}, CPU seconds", figures[f"{stage}_cpu_seconds"] / measured_tokens)
    for preset, rate in rates.items():
        row(f"one epoch of `{preset}`, GPU hours", 1 / rate / 3600)
    return "\n".join(lines)


def main() -> None:
    """Measure each number of shards, then print the table from the last one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--shards", default="103,1030", help="numbers of shards, by commas")
    parser.add_argument("--shard_tokens", type=int, default=SHARD_TOKENS)
    parser.add_argument("--base_rate", type=float, default=3.13e6, help="tokens/s, performance.md")
    parser.add_argument("--small_rate", type=float, default=0.606e6, help="the same of small")
    arguments = parser.parse_args()
    for number in (int(text) for text in arguments.shards.split(",")):
        figures = measure(number, arguments.shard_tokens)
        print(json.dumps({"shards": number} | figures), flush=True)
    rates = gpu_rates({"base": arguments.base_rate, "small": arguments.small_rate})
    print(table(figures, number * arguments.shard_tokens, rates))


if __name__ == "__main__":
    main()
