"""Where shards lie: one folder per dataset, outside what DVC checks out, so that runs share it.

The store is `data/shards` of the main checkout: experiments that DVC runs elsewhere (queued, or
with --temp) find it through DVC_ROOT, which DVC sets. DATA_PATH overrides it. If it holds .bin
files itself, it is the dataset's own folder; if `data/<dataset>` in it does, that is the folder
(the layout of the script that this toolkit grew from); otherwise it stands in for `data/shards`.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ramengpt.errors import UserError, shown, shown_path


@dataclass(frozen=True)
class Store:
    """The folder with one dataset's shards.

    Attributes:
        folder: absolute path; need not exist yet.
        data_path: the value of DATA_PATH that led here, empty without one.
    """

    folder: Path
    data_path: str

    def announce(self) -> None:
        """Say on standard error that DATA_PATH is in force, since DVC cannot track it."""
        if self.data_path:
            place = shown_path(self.folder)
            sys.stderr.write(f"DATA_PATH={shown_path(self.data_path)}: the shards are in {place}\n")


def locate_store(dataset: str, environment: Mapping[str, str] = os.environ) -> Store:
    """Find the folder of a dataset's shards (the module's docstring has the rule).

    Args:
        dataset: the selector, a key of `datasets` in params.yaml.
        environment: where DATA_PATH and DVC_ROOT are looked up.

    Raises:
        UserError: DATA_PATH is no path.
    """
    data_path = environment.get("DATA_PATH", "")
    if data_path:
        root = _expanded(data_path)
        places = (root, root / "data" / dataset)
        own = (place for place in places if any(place.glob("*.bin")))
        return Store(next(own, root / dataset), data_path)
    root = Path(environment.get("DVC_ROOT") or Path.cwd())
    return Store(root.resolve() / "data" / "shards" / dataset, "")


def _expanded(data_path: str) -> Path:
    try:
        return Path(data_path).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"DATA_PATH: expected a folder, found {shown(data_path)} ({error})"
        ) from None
