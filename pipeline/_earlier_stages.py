"""What a scratch run in a fresh clone needs first: the stages before it, without DVC."""

from ramengpt.config import Config
from ramengpt.data.index.bos_index import INDEX_FILE, INDEX_FOLDER
from ramengpt.data.shards.manifest import MANIFEST_PATH
from ramengpt.progress import say


def run_missing_stages(config: Config) -> None:
    """Make the manifest and the index of the selected dataset if there are none yet.

    Those that are there are left alone: whether they are right is checked when they are read.

    Raises:
        UserError: as the stages do.
    """
    name = config.dataset_name
    if not MANIFEST_PATH.exists():
        from pipeline.download import download
        from pipeline.verify import verify

        say(f"{MANIFEST_PATH} does not exist yet: obtaining the dataset {name!r} (stage download)")
        download(config, None)
        say(f"reading every shard of {name!r} (stage verify)")
        verify(name)
    if not (INDEX_FOLDER / INDEX_FILE).exists():
        from pipeline.index import index

        say(f"finding where the documents of {name!r} start (stage index)")
        index(config)
