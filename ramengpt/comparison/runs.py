"""Read the results of a run: from a scratch folder, a git revision or a DVC experiment.

Nothing is checked out. A scratch run needs neither git nor DVC: the config beside its weights holds
the settings that decided its result.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramengpt.errors import UserError
from ramengpt.training.tracking.log_table import LogTable

RESULTS = "results/train"
SCRATCH_RESULTS = "results"
CONFIG = "models/config.json"
FILES = ("metrics.json", "train.tsv", "validation.tsv")
MARKS = ("finished", "run")
"""Of metrics.json, what says whose numbers it holds."""
WORKSPACE = "workspace"
LOCK = "dvc.lock"

Curve = list[dict[str, float]]


@dataclass(frozen=True)
class ComparedRun:
    """One run.

    Attributes:
        name: of the revision, experiment or folder.
        metrics: metrics.json, flattened: `validation.loss`, `speed.tokens_per_second`...
        params: the parameters that its stages depend on, flattened in the same way.
        train: rows of train.tsv.
        validation: rows of validation.tsv.
    """

    name: str
    metrics: dict[str, Any]
    params: dict[str, Any]
    train: Curve
    validation: Curve


def read_run(name: str, project: Path) -> ComparedRun:
    """Read a run.

    Args:
        name: a branch, tag, commit or DVC experiment; `workspace` for the files as they are; or the
            folder of a scratch run.
        project: root of the DVC project.

    Raises:
        UserError: there is no such revision or run, or no trained model at it.
    """
    return _read_folder(name, project) if is_scratch_run(name, project) else _read(name, project)


def is_scratch_run(name: str, project: Path) -> bool:
    """Whether a name is the folder of a run that `pipeline.train --out` has started."""
    folder = project / name
    return bool(name) and any((folder / part).is_dir() for part in ("checkpoints", SCRATCH_RESULTS))


def _read_folder(name: str, project: Path) -> ComparedRun:
    *texts, config = (
        _read_text(project / name / path, name, path)
        for path in (*(f"{SCRATCH_RESULTS}/{file}" for file in FILES), CONFIG)
    )
    return _parsed(
        name, texts, _parse_settings(config, f"{name}/{CONFIG}"), f"{name}/{SCRATCH_RESULTS}"
    )


def _parse_settings(config: str, where: str) -> dict[str, Any]:
    """What the run that left a config.json was started with, by the names of params.yaml."""
    settings = _parse_json(config, where).get("run")
    if not isinstance(settings, Mapping):
        raise UserError(f"{where} holds no run; train again")
    return _named_as_in_params(settings)


def _check_run_is_of(name: str, params: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse numbers beside parameters that they do not come from.

    Raises:
        UserError: names the first parameter that the run had another value of.
    """
    expected, found = flatten(params), flatten(settings)
    for key in expected.keys() & found.keys():
        if expected[key] != found[key]:
            raise UserError(
                f"{name}: {key}: params.yaml has {expected[key]!r}, but the run of {CONFIG} was "
                f"trained with {found[key]!r}; `dvc repro` trains with the parameters, "
                "`dvc checkout` restores the outputs that dvc.lock records"
            )


def _read_text(file: Path, name: str, path: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"{name}: {path} cannot be read; a run writes it when training ends: "
            "wait for it, or run the same command again"
        ) from None


def _named_as_in_params(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Rename a run's recorded settings as in params.yaml: `optimizers.<name>` for `optimizer`."""
    params: dict[str, Any] = {}
    for name, value in settings.items():
        if name.endswith("_name"):
            params[name.removesuffix("_name")] = value
        elif f"{name}_name" in settings:
            params[f"{name}s"] = {settings[f"{name}_name"]: value}
        else:
            params[name] = value
    return params


def _read(name: str, project: Path) -> ComparedRun:
    from dvc.api import DVCFileSystem, params_show
    from dvc.exceptions import DvcException
    from dvc.scm import RevError

    revision = None if name == WORKSPACE else name
    try:
        if not name:
            raise RevError("an empty name")
        files = DVCFileSystem(str(project), rev=revision)
        texts = [_read_output(files, name, f"{RESULTS}/{file}") for file in FILES]
        check_finished(texts[0], f"{name}: {RESULTS}/{FILES[0]}")
        config = _read_output(files, name, CONFIG)
        params = params_show(repo=str(project), rev=revision, deps=True)
    except RevError:
        raise UserError(
            f"{name!r}: no such revision or experiment, nor a run's folder; `dvc exp list` and "
            f"`git log --oneline` show those there are, '{WORKSPACE}' is the files as they are"
        ) from None
    except DvcException as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}") from None
    _check_run_is_of(name, params, _parse_settings(config, f"{name}: {CONFIG}"))
    return _parsed(name, texts, params, f"{name}: {RESULTS}")


def check_finished(metrics: str, where: str) -> None:
    """Refuse the numbers of a run that was killed, diverged, or is still running.

    Raises:
        UserError: metrics.json says that its run has not ended.
    """
    values = _parse_json(metrics, where)
    if values.get("finished") is False:
        raise UserError(
            f"{where} is of a run that has not ended, at step {values.get('step', 0)}; wait for "
            "it, or resume it: `dvc repro`"
        )


def _read_output(files: Any, name: str, path: str) -> str:
    try:
        with files.open(path, "r", encoding="utf-8") as opened:
            return str(opened.read())
    except FileNotFoundError:
        if not files.isfile(LOCK):
            raise UserError(
                f"{name}: no run is recorded there (it has no {LOCK}); `dvc repro` makes one, "
                f"`git add {LOCK} && git commit` keeps it as a baseline, then compare again"
            ) from None
        raise UserError(
            f"{name}: {path} is not there: either nothing was trained at it (`dvc exp run`), or "
            "its outputs are not in DVC's cache (`dvc pull`)"
        ) from None


def _parsed(name: str, texts: Sequence[str], params: Mapping[str, Any], folder: str) -> ComparedRun:
    """Parse a run from the contents of FILES, found in `folder`."""
    metrics, train, validation = zip(texts, (f"{folder}/{file}" for file in FILES), strict=True)
    return ComparedRun(
        name,
        {key: value for key, value in flatten(_parse_json(*metrics)).items() if key not in MARKS},
        flatten(params),
        _parse_rows(*train),
        _parse_rows(*validation),
    )


def _parse_json(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError
    except ValueError:
        raise UserError(f"{where} holds no keys and values; train again") from None
    return values


def _parse_rows(text: str, where: str) -> Curve:
    try:
        rows = LogTable(text).rows()
    except ValueError:
        rows = [{}]
    if any("loss" not in row for row in rows):
        raise UserError(f"{where} is no table of losses; train again")
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
