"""Stage download: put the dataset's shards into the store and list them in data/download.json.

Shards that are there and intact are kept. All of params.yaml is checked first.
"""

import argparse
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ramengpt.cli import run_main
from ramengpt.config import Config, load_config
from ramengpt.config.dataset import DocstringsConfig, HubShardsConfig
from ramengpt.data.shards.manifest import Receipt, write_receipt
from ramengpt.data.shards.store import locate_store
from ramengpt.data.sources.build import build_from_text
from ramengpt.data.sources.docstrings import build_docstrings
from ramengpt.data.sources.hub_shards import fetch_shards
from ramengpt.errors import UserError

LOCK_NAME = ".download.lock"


def obtain_shards(config: Config, folder: Path, redo: Sequence[str] | None) -> Receipt:
    """Build or download what is missing of the selected dataset.

    Args:
        config: the run's configuration.
        folder: the dataset's store.
        redo: files to rebuild or fetch again; empty for all of them, None for none.

    Returns:
        The dataset's shards, validation first, and what was read to build them.

    Raises:
        UserError: they cannot be had; one line says why and what to do.
    """
    processes = config.download.processes or len(os.sched_getaffinity(0))
    text: dict[str, Any] | None = None
    match config.dataset:
        case DocstringsConfig():
            shards = build_docstrings(config.dataset, folder, processes, redo)
        case HubShardsConfig():
            shards = fetch_shards(config.dataset, config.download, folder, redo)
        case _:
            shards, text = build_from_text(config.dataset, config.download, folder, processes, redo)
    return Receipt(config.dataset_name, shards, text)


def main() -> None:
    """Run the stage, one download of the same store at a time."""
    # Read when huggingface_hub is imported: nothing is told to anybody about who downloads.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    parser = argparse.ArgumentParser(prog="python -m pipeline.download", description=__doc__)
    parser.add_argument(
        "--redownload",
        nargs="*",
        metavar="FILE",
        help="rebuild or fetch again these shards, or all if none is named",
    )
    redo = parser.parse_args().redownload
    config = load_config()
    store = locate_store(config.dataset_name)
    store.announce()
    try:
        receipt = obtain_locked(config, store.folder, redo)
    except OSError as error:
        where = error.filename or store.folder
        advice = {
            errno.ENOSPC: "make room there",
            errno.EDQUOT: "make room there",
            errno.EROFS: "its disk is read-only",
        }.get(error.errno or 0, "fix its permissions")
        raise UserError(
            f"{where}: {error.strerror or error}; {advice}, or let DATA_PATH name another folder; "
            "finished shards are kept"
        ) from error
    write_receipt(receipt)


def obtain_locked(config: Config, folder: Path, redo: Sequence[str] | None) -> Receipt:
    """Do :func:`obtain_shards` when no other download is using the same store."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another download is using {folder}; waiting for it to end", flush=True)
        lock.acquire()
    try:
        return obtain_shards(config, folder, redo)
    finally:
        lock.release()


if __name__ == "__main__":
    run_main(main, output_is_optional=True)
