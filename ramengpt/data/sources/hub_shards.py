"""Finished token shards from the Hub: fetch what is missing, keep what is intact.

Existing shards are compared with the record of earlier runs, else with the Hub's checksums. Shards
beyond the requested number are left alone.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from ramengpt.config.dataset import DownloadConfig, HubShardsConfig
from ramengpt.data.shards.format import Split, inspect_shard, shard_filename
from ramengpt.data.shards.manifest import DownloadedShard
from ramengpt.data.shards.provenance import Provenance
from ramengpt.data.sources.hub_client import HubFile, HubRepository, HubUnreachableError
from ramengpt.errors import UserError
from ramengpt.progress import Progress, say, scaled


def wanted_shards(name: str, train_shards: int) -> dict[str, Split]:
    """Name a dataset's files in order: validation shard 0, then train shards from 1 on."""
    wanted: dict[str, Split] = {shard_filename(name, "val", 0): "val"}
    for number in range(1, train_shards + 1):
        wanted[shard_filename(name, "train", number)] = "train"
    return wanted


def check_redo(redo: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Take the files named after --redownload, or all.

    Raises:
        UserError: one of them is not a shard of the dataset.
    """
    for file in redo:
        if Path(file).name not in wanted:
            raise UserError(
                f"--redownload {file}: not a shard of this dataset, which has {wanted[0]} "
                f"to {wanted[-1]}"
            )
    return [Path(file).name for file in redo] or list(wanted)


def fetch_shards(
    config: HubShardsConfig,
    settings: DownloadConfig,
    folder: Path,
    redo: Sequence[str] | None,
) -> tuple[DownloadedShard, ...]:
    """Put a dataset's shards into its store.

    Args:
        config: repository, revision, number of shards.
        settings: connections, attempts, back-off, timeout.
        folder: the dataset's store; exists.
        redo: shards to fetch whatever is there; empty for all, None for none.

    Returns:
        The shards, validation first.

    Raises:
        UserError: a shard cannot be had, or the disk is too small; says what to do.
    """
    wanted = wanted_shards(config.name, config.train_shards)
    source = {"repository": config.repository, "revision": config.revision}
    provenance = Provenance(folder, source)
    forced = set() if redo is None else set(check_redo(redo, list(wanted)))
    unknown = [file for file in wanted if file in forced or not provenance.intact(file)]
    if unknown:
        _complete(config, settings, provenance, unknown, forced)
    else:
        say(f"{config.repository}: {len(wanted)} shards are up to date in {folder}")
    provenance.checksums.save()
    return tuple(
        DownloadedShard(
            file, split, (folder / file).stat().st_size, provenance.checksums.sha256(file)
        )
        for file, split in wanted.items()
    )


def _complete(
    config: HubShardsConfig,
    settings: DownloadConfig,
    provenance: Provenance,
    unknown: list[str],
    forced: set[str],
) -> None:
    """See which of the unknown shards are what the Hub has; fetch the others."""
    repository = HubRepository(config.repository, config.revision, settings)
    try:
        listing = repository.files()
    except HubUnreachableError as error:
        _accept_unseen(provenance, unknown, forced, error)
        return
    _require_listed(config, unknown, listing)
    missing = [
        listing[file] for file in unknown if file in forced or not _adopt(provenance, listing[file])
    ]
    for shard in missing:
        provenance.claim(shard.name)
    if missing:
        _check_space(provenance.folder, missing)
        _fetch_all(repository, missing, provenance, settings.connections)


def _accept_unseen(
    provenance: Provenance, unknown: list[str], forced: set[str], error: HubUnreachableError
) -> None:
    """Without a network, shards that somebody put there pass if their headers and sizes do."""
    copied = (
        not forced
        and not provenance.replaced
        and not any(inspect_shard(provenance.folder / file)[1] for file in unknown)
    )
    if not copied:
        raise error
    say(f"{len(unknown)} shards in {provenance.folder} could not be compared with the Hub's")


def _require_listed(
    config: HubShardsConfig, unknown: list[str], listing: dict[str, HubFile]
) -> None:
    for file in unknown:
        if file not in listing:
            prefix = f"{config.name}_train_"
            available = sum(name.startswith(prefix) for name in listing)
            advice = f"set it to {available} or less" if available else "take another repository"
            raise UserError(
                f"{file}: not in {config.repository} at revision {config.revision} (HTTP 404), "
                f"which has {available} train shards; train_shards is {config.train_shards}: "
                f"{advice}"
            )


def _adopt(provenance: Provenance, file: HubFile) -> bool:
    """Record a shard that is there and is what the Hub has."""
    path = provenance.folder / file.name
    if not path.exists():
        return False
    right = (
        not inspect_shard(path)[1]
        and path.stat().st_size == file.bytes
        and file.sha256 in ("", provenance.checksums.sha256(file.name))
    )
    if right:
        provenance.ours.add(file.name)
        provenance.record(file.name)
    elif file.name in provenance.ours:
        say(f"{path}: not what the Hub has; it is fetched again")
    return right


def _check_space(folder: Path, missing: list[HubFile]) -> None:
    needed = sum(file.bytes for file in missing) - _bytes_there(folder, missing)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {scaled(needed, 'B')} are needed for {len(missing)} shards, "
            f"{scaled(free, 'B')} are free; make room, lower train_shards, or let DATA_PATH name "
            "another disk"
        )


def _bytes_there(folder: Path, missing: list[HubFile]) -> int:
    """Bytes that earlier, interrupted downloads left."""
    parts = [HubRepository.part_path(file, folder / file.name) for file in missing]
    return sum(part.stat().st_size for part in parts if part.exists())


def _fetch_all(
    repository: HubRepository, missing: list[HubFile], provenance: Provenance, connections: int
) -> None:
    """Fetch several at a time; the first failure stops the others, what they have is kept."""
    folder = provenance.folder
    total = sum(file.bytes for file in missing)
    label = f"{repository.repository}, {len(missing)} shards"
    with (
        Progress(label, total, "B", done=_bytes_there(folder, missing)) as progress,
        ThreadPoolExecutor(connections) as pool,
    ):
        fetches = {
            pool.submit(repository.fetch, file, folder / file.name, progress.advance): file
            for file in missing
        }
        try:
            for fetch in as_completed(fetches):
                fetch.result()
                provenance.record(fetches[fetch].name)
        finally:
            repository.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
