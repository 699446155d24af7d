"""The outputs of a run: one set, of one run, that is complete exactly when its weights are there.

    <results>/train.tsv, validation.tsv, plan.csv   grow while the run goes on
    <results>/metrics.json                          the same; `finished` is true in a complete set
    <models>/                                       appears in one rename, last of all

How no event can leave a record of two runs:

1. Before its first row is written a run withdraws the set of the run before it (DVC, which starts
   the stage, has deleted it already; `dvc checkout` brings it back from the cache).
2. While it goes on, its own tables are there, so that `dvc exp show` and `dvc plots show` follow
   it, and no weights are. A killed or diverged run leaves that: rows of its own, marked as
   unfinished, and no output `models`, without which DVC does not take the stage for done.
3. At the end the weights are written aside, the inputs are compared with those at the start, the
   last row and `finished` are written, and the folder of weights gets its name. A kill before that
   rename leaves what 2. says, and the next start trains from the newest checkpoint to the same
   end; a kill after it leaves the complete set.
4. If the inputs have changed, all is withdrawn again: the rows would stand beside values that they
   do not come from.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramengpt.files import flush_folder, write_bytes
from ramengpt.training.session.folders import RunFolders

METRICS_FILE = "metrics.json"
RESULT_FILES = (METRICS_FILE, "train.tsv", "validation.tsv", "plan.csv")
"""The numbers are withdrawn first."""


def weights_aside(folders: RunFolders) -> Path:
    """Where weights are written before they get their name; on the same disk."""
    return folders.models.with_name(f"{folders.models.name}.part")


def withdraw_outputs(folders: RunFolders) -> None:
    """Remove the complete or unfinished set of whatever run was here before."""
    for name in RESULT_FILES:
        (folders.results / name).unlink(missing_ok=True)
    shutil.rmtree(weights_aside(folders), ignore_errors=True)
    if folders.models.exists():
        folders.models.rename(weights_aside(folders))
        shutil.rmtree(weights_aside(folders))


def write_metrics(results: Path, metrics: Mapping[str, Any], *, finished: bool) -> None:
    """Write metrics.json, which says whether its numbers are those of the run's end."""
    content = json.dumps({"finished": finished, **metrics}, indent=2) + "\n"
    write_bytes(results / METRICS_FILE, content.encode())


def publish_outputs(folders: RunFolders, metrics: Mapping[str, Any]) -> None:
    """Make the set complete; the weights lie aside."""
    write_metrics(folders.results, metrics, finished=True)
    weights_aside(folders).rename(folders.models)
    flush_folder(folders.models.parent)
