"""Find where documents start, and write data/index and results/index.

results/index/metrics.json has the documents, tokens and length quantiles of each split, and the
share of its text that lies within the first 256, 512, ... tokens of its documents;
results/index/document_lengths.csv has the distribution of lengths.
"""

import argparse
import json
from pathlib import Path

from ramengpt.cli import command_parser, run_main
from ramengpt.config import Config, load_config
from ramengpt.data.index.bos_index import INDEX_FOLDER, build_index, index_path, open_offsets
from ramengpt.data.index.document_lengths import DocumentLengths, histogram_edges
from ramengpt.data.shards.format import Split
from ramengpt.data.shards.manifest import Manifest, read_manifest
from ramengpt.data.shards.store import locate_store
from ramengpt.data.sources.restore import restore_shards
from ramengpt.files import write_bytes
from ramengpt.progress import Progress, say

METRICS_PATH = Path("results/index/metrics.json")
PLOT_PATH = Path("results/index/document_lengths.csv")
SPLITS: tuple[Split, ...] = ("train", "val")
SEQUENCES_TOKENS = (256, 512, 1024, 2048, 4096, 8192)


def index(config: Config) -> DocumentLengths:
    """Index the shards of the manifest; those that are lost are obtained again first.

    Args:
        config: selects the dataset.

    Returns:
        Lengths of the documents for training.

    Raises:
        UserError: the manifest is missing, or shards are not its and cannot be obtained again.
    """
    manifest = read_manifest()
    store = locate_store(manifest.dataset)
    store.announce()
    restore_shards(config, manifest, store.folder)
    total_tokens = sum(shard.tokens for shard in manifest.shards)
    with Progress(f"index {manifest.dataset}", total_tokens, "tokens") as progress:
        build_index(manifest, store.folder, advance=progress.advance)
    lengths = {split: _measure(manifest, split) for split in SPLITS}
    _write_metrics(manifest, lengths)
    _write_plot(lengths)
    return lengths["train"]


def dropped_text_warning(lengths: DocumentLengths, config: Config) -> str:
    """One line if training would drop most of the text, empty otherwise."""
    longest = max(config.schedule.sequence.tokens)
    share = lengths.share_within(longest)
    if config.reading.long_documents == "split" or share >= 0.5:
        return ""
    return (
        f"warning: training reads only {share:.1%} of this text, the first {longest} tokens of "
        f"every document (schedules.{config.schedule_name}.sequence.tokens); to read all of it, "
        f"set reading.{config.dataset_name}.long_documents to split"
    )


def _measure(manifest: Manifest, split: Split) -> DocumentLengths:
    lengths = DocumentLengths()
    for shard in manifest.split(split):
        path = index_path(shard.file, INDEX_FOLDER)
        offsets = open_offsets(path, shard.documents, shard.tokens)
        lengths.add_shard(offsets, shard.tokens)
    lengths.finish()
    return lengths


def _write_metrics(manifest: Manifest, lengths: dict[Split, DocumentLengths]) -> None:
    metrics = {
        split: {
            "shards": len(manifest.split(split)),
            "documents": lengths[split].documents,
            "tokens": sum(shard.tokens for shard in manifest.split(split)),
            "length_tokens": lengths[split].summary(),
            "text_within_tokens": {
                str(tokens): round(lengths[split].share_within(tokens), 4)
                for tokens in SEQUENCES_TOKENS
            },
        }
        for split in SPLITS
    }
    write_bytes(METRICS_PATH, (json.dumps(metrics, indent=2) + "\n").encode())


def _write_plot(lengths: dict[Split, DocumentLengths]) -> None:
    """One row per bin: its lower edge, and the percentage of each split's documents in it."""
    longest = max(int(lengths[split].summary().get("max", 1)) for split in SPLITS)
    edges = histogram_edges(longest)
    columns = [lengths[split].histogram(edges) for split in SPLITS]
    rows = ["length_tokens,train_percent,val_percent"]
    for edge, *percentages in zip(edges[:-1], *columns, strict=True):
        rows.append(",".join([str(edge), *(f"{value:.6g}" for value in percentages)]))
    write_bytes(PLOT_PATH, ("\n".join(rows) + "\n").encode())


def parser() -> argparse.ArgumentParser:
    """What the command line may say: nothing but --help."""
    return command_parser("pipeline.index", __doc__)


def main() -> None:
    """Run the stage."""
    parser().parse_args()
    config = load_config()
    lengths = index(config)
    print(METRICS_PATH.read_text(encoding="utf-8"), end="")
    if warning := dropped_text_warning(lengths, config):
        say(warning)


if __name__ == "__main__":
    run_main(main, output_is_optional=True)
