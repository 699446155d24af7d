"""A dataset repository of four shards, and how its Hub is asked."""

import numpy as np

from ramengpt.config.dataset import DownloadConfig
from ramengpt.data.shards.format import MAGIC, ShardHeader

REPOSITORY = "kjj0/tiny-gpt2"
TOKENS = 150_000


def shard_bytes(seed: int, tokens: int = TOKENS) -> bytes:
    values = np.random.default_rng(seed).integers(0, 50257, tokens, dtype=np.uint16)
    values[0] = 50256
    return ShardHeader(MAGIC, 1, tokens).to_bytes() + values.tobytes()


FILES = {
    "README.md": b"# tiny\n",
    "tiny_val_000000.bin": shard_bytes(0),
    **{f"tiny_train_{number:06d}.bin": shard_bytes(number) for number in range(1, 4)},
}
FIRST = "tiny_train_000001.bin"


def hub_settings(attempts: int = 3) -> DownloadConfig:
    return DownloadConfig(
        connections=3,
        processes=1,
        attempts=attempts,
        backoff_seconds=0.01,
        timeout_seconds=5.0,
        engine="local",
    )
