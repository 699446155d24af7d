"""Read what training left at any git revision or DVC experiment, without checking it out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramengpt.errors import UserError
from ramengpt.training.log_table import LogTable

RESULTS = "results/train"
FILES = ("metrics.json", "train.tsv", "validation.tsv")
WORKSPACE = "workspace"

Rows = list[dict[str, float]]


@dataclass(frozen=True)
class ComparedRun:
    """One run.

    Attributes:
        name: of the revision or experiment, as the user gave it.
        metrics: metrics.json, flattened: `validation.loss`, `speed.tokens_per_second`...
        params: the parameters that its stages depend on, flattened in the same way.
        train: rows of train.tsv.
        validation: rows of validation.tsv.
    """

    name: str
    metrics: dict[str, Any]
    params: dict[str, Any]
    train: Rows
    validation: Rows


def read_run(name: str, project: Path) -> ComparedRun:
    """Read a run.

    Args:
        name: a branch, tag, commit or DVC experiment; `workspace` for the files as they are.
        project: root of the DVC project.

    Raises:
        UserError: there is no such revision, or no trained model at it.
    """
    from dvc.api import DVCFileSystem, params_show
    from dvc.exceptions import DvcException
    from dvc.scm import RevError

    revision = None if name == WORKSPACE else name
    try:
        if not name:
            raise RevError("an empty name")
        files = DVCFileSystem(str(project), rev=revision)
        texts = [_read(files, name, file) for file in FILES]
        params = params_show(repo=str(project), rev=revision, deps=True)
    except RevError:
        raise UserError(
            f"{name!r}: no such revision or experiment; `dvc exp list` and `git log --oneline` "
            f"show those there are, '{WORKSPACE}' is the files as they are"
        ) from None
    except DvcException as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}") from None
    return ComparedRun(
        name,
        flatten(_parse_json(texts[0], name)),
        flatten(params),
        _parse_rows(texts[1], name, FILES[1]),
        _parse_rows(texts[2], name, FILES[2]),
    )


def _read(files: Any, name: str, file: str) -> str:
    path = f"{RESULTS}/{file}"
    try:
        with files.open(path, "r", encoding="utf-8") as opened:
            return str(opened.read())
    except FileNotFoundError:
        raise UserError(
            f"{name}: {path} is not there: either nothing was trained at it (`dvc exp run`), or "
            "its outputs are not in DVC's cache (`dvc pull`)"
        ) from None


def _parse_json(text: str, name: str) -> dict[str, Any]:
    try:
        metrics = json.loads(text)
        if not isinstance(metrics, dict):
            raise ValueError
    except ValueError:
        raise UserError(f"{name}: {RESULTS}/metrics.json holds no metrics; train again") from None
    return metrics


def _parse_rows(text: str, name: str, file: str) -> Rows:
    try:
        rows = LogTable(text).rows()
    except ValueError:
        rows = [{}]
    if any("loss" not in row for row in rows):
        raise UserError(f"{name}: {RESULTS}/{file} is no table of losses; train again")
    return rows


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested keys into dotted ones: `{"a": {"b": 1}}` into `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def params_that_differ(runs: list[ComparedRun]) -> dict[str, list[Any]]:
    """Parameters that are not the same in all runs.

    Entries that runs select of the same table lie side by side: where `optimizer` is adam,
    `optimizers.adam.learning_rate` is called `optimizers.*.learning_rate`.

    Returns:
        For each, its value in every run, None in those that do not depend on it.
    """
    params = [_selected(run.params) for run in runs]
    names = dict.fromkeys(name for values in params for name in values)
    values = {name: [of_run.get(name) for of_run in params] for name in names}
    return {name: column for name, column in values.items() if any(v != column[0] for v in column)}


def _selected(params: Mapping[str, Any]) -> dict[str, Any]:
    """Give every selected entry of a table the same name, whichever it is."""
    named = {}
    for name, value in params.items():
        table, _, rest = name.partition(".")
        entry = f"{params.get(table.removesuffix('s'))}."
        selected = table.endswith("s") and rest.startswith(entry)
        named[f"{table}.*.{rest.removeprefix(entry)}" if selected else name] = value
    return named
