"""Read every shard of the dataset in full and write data/manifest.json.

Shards and data/download.json stay as they are. All faults are reported, one line each.
"""

import argparse

from ramengpt.cli import command_parser, run_main
from ramengpt.config import load_config
from ramengpt.data.shards.format import Fault, ShardError
from ramengpt.data.shards.manifest import (
    MANIFEST_PATH,
    Manifest,
    read_download_record,
    write_manifest,
)
from ramengpt.data.shards.store import locate_store
from ramengpt.data.shards.verification import verify_shards
from ramengpt.progress import Progress


def verify(dataset: str) -> Manifest:
    """Check the shards of a dataset and write the manifest.

    Raises:
        ShardError: no download record, one of another dataset, or bad shards: one line for each
            fault. No manifest is left, not even an older one.
    """
    MANIFEST_PATH.unlink(missing_ok=True)
    record = read_download_record()
    if record.dataset != dataset:
        advice = "run `python -m pipeline.download`"
        raise ShardError(
            Fault("data/download.json", "dataset", repr(dataset), repr(record.dataset), advice)
        )
    store = locate_store(dataset)
    store.announce()
    total_bytes = sum(shard.bytes for shard in record.shards)
    with Progress(f"verify {dataset}", total_bytes, "B") as progress:
        manifest, faults = verify_shards(record, store.folder, progress.advance)
    if manifest is None:
        raise ShardError(*faults)
    write_manifest(manifest)
    return manifest


def parser() -> argparse.ArgumentParser:
    """What the command line may say: nothing but --help."""
    return command_parser("pipeline.verify", __doc__)


def main() -> None:
    """Run the stage."""
    parser().parse_args()
    manifest = verify(load_config().dataset_name)
    for split in ("val", "train"):
        shards = manifest.split(split)
        tokens = sum(shard.tokens for shard in shards)
        documents = sum(shard.documents for shard in shards)
        print(f"{split}: {len(shards)} shards, {documents:,} documents, {tokens:,} tokens")


if __name__ == "__main__":
    run_main(main, output_is_optional=True)
