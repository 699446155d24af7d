"""Put a dataset's shards into its store, from wherever they come."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ramengpt.config import Config
from ramengpt.config.dataset import DocstringsConfig, HubShardsConfig
from ramengpt.data.shards.manifest import DownloadRecord
from ramengpt.data.sources.build import build_from_text
from ramengpt.data.sources.docstrings import build_docstrings
from ramengpt.data.sources.hub_shards import fetch_shards
from ramengpt.errors import UserError, shown_path
from ramengpt.files import ADVICE
from ramengpt.progress import say

LOCK_NAME = ".download.lock"


def obtain_shards(config: Config, folder: Path, redo: Sequence[str] | None) -> DownloadRecord:
    """Build or download what is missing of the selected dataset; hold the store's lock.

    Args:
        config: the run's configuration.
        folder: the dataset's store.
        redo: files to rebuild or fetch again; empty for all of them, None for none.

    Returns:
        The dataset's shards, validation first, and what was read to build them.

    Raises:
        UserError: they cannot be had; one line says why and what to do.
    """
    # Read when huggingface_hub is imported: no telemetry.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    processes = config.download.processes or len(os.sched_getaffinity(0))
    text: dict[str, Any] | None = None
    match config.dataset:
        case DocstringsConfig():
            shards = build_docstrings(config.dataset, folder, processes, redo)
        case HubShardsConfig():
            shards = fetch_shards(config.dataset, config.download, folder, redo)
        case _:
            shards, text = build_from_text(config.dataset, config.download, folder, processes, redo)
    return DownloadRecord(config.dataset_name, shards, text)


@contextmanager
def locked_store(folder: Path) -> Iterator[None]:
    """Keep other downloads out of a store, which is created if need be.

    Raises:
        UserError: instead of the error that a full or read-only disk or a lack of permissions
            raised inside.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_NAME)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"another download is using {folder}; waiting for it to end")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    except OSError as error:
        where = shown_path(error.filename or folder)
        advice = ADVICE.get(error.errno or 0, "fix its permissions")
        raise UserError(
            f"{where}: {error.strerror or error}; {advice}, or let DATA_PATH name another folder; "
            "finished shards are kept"
        ) from error
