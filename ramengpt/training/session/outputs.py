"""The outputs of a run: one set, from one run, complete exactly when its weights are there.

    <results>/train.tsv, validation.tsv, plan.csv   grow during the run
    <results>/metrics.json                          too; `finished` is true in a complete set,
                                                    and `run` names the run
    <models>/                                       appears last, in one rename

For an output that is missing, `dvc exp show` and `dvc plots diff` read the one that dvc.lock names.
In a queued experiment that is the run of the commit that it was queued from, and DVC even puts its
files there. Therefore:

* Stage `check` replaces the outputs of a run of other inputs by those of a run without numbers.
* Stage `train` starts with that too, since DVC has deleted the outputs by then, and only then
  imports what takes seconds, restores data and waits for a GPU.
* `run` differs wherever parameters, code or data do, so that DVC's rows say whose numbers they
  hold where nothing of ours can run: before the first stage, and of an experiment that failed, for
  which DVC reads the commit that it was queued from.

Why the outputs never mix two runs, whatever happens:

1. Before it writes its first row, a run removes the previous run's set (under `dvc repro` DVC has
   deleted it already; `dvc checkout` restores it from the cache).
2. During the run its tables are there, so that `dvc exp show` and `dvc plots show` follow it, but
   no weights. A killed or diverged run leaves that: its own rows, marked as unfinished, and no
   `models`, so DVC does not consider the stage done.
3. At the end the weights are written under another name, the inputs are compared with those at the
   start, the last row and `finished` are written, and the folder of weights is renamed. A kill
   before the rename leaves what 2 says, and the next start resumes from the newest checkpoint; a
   kill after it leaves the complete set.
4. If the inputs have changed, a run without numbers is put there instead: the rows would stand
   beside values that they do not come from.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramengpt.files import flush_folder, write_bytes
from ramengpt.training.session.folders import RunFolders

METRICS_FILE = "metrics.json"
RESULT_FILES = (METRICS_FILE, "train.tsv", "validation.tsv", "plan.csv")
"""In the order of their removal: the headline numbers first."""


def unpublished_weights(folders: RunFolders) -> Path:
    """Where weights are written before the rename, on the same disk."""
    return folders.models.with_name(f"{folders.models.name}.part")


def withdraw_outputs(folders: RunFolders) -> None:
    """Remove the complete or unfinished set of an earlier run, and samples of its weights."""
    for name in RESULT_FILES:
        (folders.results / name).unlink(missing_ok=True)
    if folders.samples is not None:
        folders.samples.unlink(missing_ok=True)
    _remove(unpublished_weights(folders))
    if os.path.lexists(folders.models):
        folders.models.rename(unpublished_weights(folders))
        _remove(unpublished_weights(folders))


def _remove(path: Path) -> None:
    """Remove a folder, or the link or file in its place; a link's target is left alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def shown_run(results: Path) -> str | None:
    """The name of the run whose numbers are there; None if there are none."""
    try:
        metrics = json.loads((results / METRICS_FILE).read_text(encoding="utf-8"))
        return str(metrics.get("run", "")) if metrics.keys() - {"finished"} else None
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError):
        return ""


def announce_run(results: Path) -> None:
    """Put the files of a run without numbers where there are none."""
    for name in RESULT_FILES[1:]:
        if not (results / name).exists():
            write_bytes(results / name, b"")
    if not (results / METRICS_FILE).exists():
        write_metrics(results, {}, finished=False)


def write_metrics(results: Path, metrics: Mapping[str, Any], *, finished: bool) -> None:
    """Write metrics.json, which says whether the run had finished."""
    content = json.dumps({"finished": finished, **metrics}, indent=2) + "\n"
    write_bytes(results / METRICS_FILE, content.encode())


def publish_outputs(folders: RunFolders, metrics: Mapping[str, Any]) -> None:
    """Complete the set with the last metrics and the weights."""
    write_metrics(folders.results, metrics, finished=True)
    unpublished_weights(folders).rename(folders.models)
    flush_folder(folders.models.parent)
