"""Fetch or make the dataset's shards, and list them in data/download.json.

Intact shards are kept.
"""

import argparse
from collections.abc import Sequence

from pipeline._edits import check_values_unchanged
from ramengpt.cli import command_parser, run_main
from ramengpt.config import Config, load_config
from ramengpt.data.shards.manifest import write_download_record
from ramengpt.data.shards.store import locate_store
from ramengpt.data.sources.obtain import locked_store, obtain_shards


def download(config: Config, redo: Sequence[str] | None) -> None:
    """Obtain what is missing of the selected dataset, and list its shards.

    Args:
        config: selects the dataset.
        redo: files to rebuild or fetch again; empty for all of them, None for none.

    Raises:
        UserError: they cannot be had; one line says why and what to do.
    """
    store = locate_store(config.dataset_name)
    store.announce()
    with locked_store(store.folder):
        record = obtain_shards(config, store.folder, redo)
    write_download_record(record)


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    flags = command_parser("pipeline.download", __doc__)
    flags.add_argument(
        "--redownload",
        nargs="*",
        metavar="FILE",
        help="fetch or make these shards again; all of them if none is named",
    )
    return flags


def main() -> None:
    """Run the stage."""
    redo = parser().parse_args().redownload
    config = load_config()
    download(config, redo)
    keys = f"dataset or datasets.{config.dataset_name}"
    check_values_unchanged(keys, lambda now: (now.dataset_name, now.dataset), config)


if __name__ == "__main__":
    run_main(main, output_is_optional=True)
