"""Shards that were lost or damaged since they were verified: bring them back before they are read.

What comes back is checked against the manifest, so this cannot change a result: a run reads exactly
the shards that the manifest lists, or none.
"""

from collections.abc import Sequence
from pathlib import Path

from ramengpt.config import Config
from ramengpt.data.shards.format import Fault, ShardError
from ramengpt.data.shards.manifest import Manifest
from ramengpt.data.shards.verification import check_store
from ramengpt.errors import UserError
from ramengpt.progress import say


def restore_shards(config: Config, manifest: Manifest, folder: Path) -> None:
    """Refuse shards that are not those of the manifest, after obtaining again those that are not.

    Args:
        config: selects the dataset; shards of another than the manifest's cannot be obtained.
        manifest: what verify found.
        folder: the dataset's store.

    Raises:
        ShardError: with every shard that differs, if the manifest is of another dataset.
        UserError: a shard cannot be had, or its source has changed since; one line says what to do.
    """
    try:
        check_store(manifest, folder)
        return
    except ShardError:
        if manifest.dataset != config.dataset_name:
            raise
    # Imported late: readers of text and tokenizers are slow to import and rarely needed here.
    from ramengpt.data.sources.obtain import locked_store, obtain_shards

    with locked_store(folder):
        faults = _faults(manifest, folder)  # another run may have restored them meanwhile
        if not faults:
            return
        files = sorted({Path(fault.file).name for fault in faults})
        say(
            f"{manifest.dataset}: {len(files)} of {len(manifest.shards)} shards are missing or "
            f"damaged ({files[0]}{', ...' if files[1:] else ''}); they are obtained again"
        )
        damaged = [file for file in files if (folder / file).exists()]
        obtain_shards(config, folder, damaged or None)
        faults = _faults(manifest, folder)
    if faults:
        raise UserError(
            f"{faults[0].file}: obtained again, and still not what data/manifest.json lists "
            f"({faults[0].where}: expected {faults[0].expected}, found {faults[0].found}): its "
            "source has changed since; run `dvc repro -f index` to take the data that it gives now"
        )


def _faults(manifest: Manifest, folder: Path) -> Sequence[Fault]:
    try:
        check_store(manifest, folder)
    except ShardError as error:
        return error.faults
    return ()
