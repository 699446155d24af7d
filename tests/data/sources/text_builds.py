"""Texts to build shards from, and what the shards must hold."""

import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from ramengpt.config.dataset import DownloadConfig, TextConfig
from ramengpt.data.sources.build import build_from_text
from ramengpt.data.text.tokenizer import gpt2_encoding

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "'s", "12", "été\n"]


def make_texts(count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 60, count)
    return [" ".join(random.choice(WORDS, size)) for size in sizes]


def reference_tokens(texts: list[str]) -> np.ndarray:
    encoding = gpt2_encoding()
    stream = [token for text in texts for token in [50256, *encoding.encode_ordinary(text)]]
    return np.array(stream, dtype=np.uint16)


def local_settings() -> DownloadConfig:
    return DownloadConfig(
        connections=1,
        processes=1,
        attempts=1,
        backoff_seconds=0.0,
        timeout_seconds=5.0,
        engine="local",
    )


def text_config(*paths: Path, val: int = 100, shard: int = 300, separator: str = "") -> TextConfig:
    return TextConfig(
        kind="text",
        name="mine",
        paths=[str(path) for path in paths],
        text_field="text",
        document_separator=separator,
        val_tokens=val,
        shard_tokens=shard,
    )


def built(config, settings, store, processes, redo):
    """The shards of :func:`build_from_text`."""
    return build_from_text(config, settings, store, processes, redo)[0]


def lines_of(texts: list) -> bytes:
    return b"".join(json.dumps({"text": text, "id": 1}).encode() + b"\n" for text in texts)


def write_files(folder: Path) -> list[str]:
    """One file of each kind, in the order of their names; returns their texts."""
    folder.mkdir()
    parts = [make_texts(20, seed) for seed in range(6)]
    (folder / "a.jsonl").write_bytes(lines_of(parts[0]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines_of(parts[1])))
    (folder / "c.jsonl.xz").write_bytes(lzma.compress(lines_of(parts[2])))
    frames = [
        zstandard.compress(lines_of(parts[3][:9])),
        zstandard.compress(lines_of(parts[3][9:])),
    ]
    (folder / "d.jsonl.zst").write_bytes(b"".join(frames))
    pq.write_table(pa.table({"text": parts[4]}), folder / "e.parquet", row_group_size=7)
    (folder / "f.txt").write_text(" ".join(parts[5]))
    return [*parts[0], *parts[1], *parts[2], *parts[3], *parts[4], " ".join(parts[5])]


def shards_of(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(store.glob("*.bin"))}


def fineweb_like(folder: Path, texts: list[str]) -> dict[str, bytes]:
    """Files laid out like the FineWeb repository, three parquet files in its sample-10BT."""
    card = "---\nconfigs:\n- config_name: default\n  data_files: data/*/*.parquet\n"
    card += "- config_name: sample-10BT\n  data_files: sample/10BT/*.parquet\n---\n# Text\n"
    files = {"README.md": card.encode()}
    files["data/CC-MAIN-2013-20/000_00000.parquet"] = _parquet(folder, ["elsewhere"])
    third = len(texts) // 3
    for number in range(3):
        part = texts[number * third : (number + 1) * third]
        files[f"sample/10BT/00{number}_00000.parquet"] = _parquet(folder, part)
    return files


def _parquet(folder: Path, texts: list[str]) -> bytes:
    path = folder / "part.parquet"
    columns = {"text": texts, "id": [str(index) for index in range(len(texts))]}
    pq.write_table(pa.table(columns), path, row_group_size=50)
    content = path.read_bytes()
    path.unlink()
    return content
