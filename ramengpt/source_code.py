"""Which code decides an output.

The code of a stage is everything that its script imports, directly or not, except for

* files that cannot change a number (`FREE`): messages, the live view, locks, what fetches data
  that is then checked against the manifest, and the classes of params.yaml that only check values,
  since the values themselves are recorded;
* update rules that are not selected: of the table of rules, only the selected one is followed;
* comments, docstrings and blank lines.

Kernels for a GPU count on every machine: otherwise a clone on a laptop would retrain what a GPU
trained. Stage `check` writes each stage's code to data/code/<stage>.json, which is what DVC
compares; a run's fingerprint and the record of a store of shards use the same.
"""

import ast
import functools
import hashlib
import io
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ramengpt.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ramengpt", "pipeline")
RULES_TABLE = "ramengpt/optimizers/rules.py"
FREE = (
    "pipeline/_earlier_stages.py",
    "pipeline/_edits.py",
    "ramengpt/__init__.py",
    "ramengpt/cli.py",
    "ramengpt/data/sources/restore.py",
    "ramengpt/errors.py",
    "ramengpt/files.py",
    "ramengpt/host.py",
    "ramengpt/progress.py",
    "ramengpt/source_code.py",
    "ramengpt/training/memory.py",
    "ramengpt/training/micro_batch.py",
    "ramengpt/training/session/checkpoint.py",
    "ramengpt/training/session/environment.py",
    "ramengpt/training/session/folders.py",
    "ramengpt/training/session/inputs.py",
    "ramengpt/training/session/interruption.py",
    "ramengpt/training/session/lock.py",
    "ramengpt/training/session/outputs.py",
    "ramengpt/training/session/own_device.py",
    "ramengpt/training/session/unresumable.py",
    "ramengpt/training/tracking/live_view.py",
    "ramengpt/training/tracking/wandb_run.py",
)
CONFIG = "ramengpt/config/"
DERIVING_CONFIG = ("ramengpt/config/model.py", "ramengpt/config/schedule.py")
"""Of the classes of params.yaml, those that derive values from the recorded ones."""


def is_free(file: str) -> bool:
    """Whether neither a file nor what only it imports decides an output."""
    return file in FREE or (file.startswith(CONFIG) and file not in DERIVING_CONFIG)


def code_of(entry: str, rule: str | None = None, root: Path = ROOT) -> dict[str, str]:
    """Every file that decides what a module does, each with a digest of its code.

    Args:
        entry: path of the module below `root`.
        rule: the selected update rule; None follows all of them.
        root: of the project.

    Returns:
        Relative path -> 16 hexadecimal digits, sorted.

    Raises:
        UserError: a module of the project is imported that is not there.
    """
    found = _closure(entry, rule, root)
    return {file: found[file].digest for file in sorted(found)}


def stage_code(stage: str, rule: str, root: Path = ROOT) -> dict[str, str]:
    """The code of a stage of dvc.yaml; `rule` is the selected update rule."""
    return code_of(f"pipeline/{stage}.py", rule, root)


class _Module(NamedTuple):
    """What a file's text says.

    Attributes:
        digest: 16 hexadecimal digits of what it does.
        packages: modules from which it imports names.
        names: dotted names of everything that it imports, `from a import b` as both a and a.b.
    """

    digest: str
    packages: tuple[str, ...]
    names: frozenset[str]


@functools.cache  # most files belong to several stages, and a run asks twice
def _module(source: str) -> _Module:
    nodes = list(ast.walk(ast.parse(source)))
    packages = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    digest = hashlib.sha256(_decisive_text(source, nodes).encode()).hexdigest()[:16]
    return _Module(digest, tuple(packages), frozenset(_imported_names(nodes)))


def _closure(entry: str, rule: str | None, root: Path) -> dict[str, _Module]:
    found: dict[str, _Module] = {}
    waiting = {entry}
    while waiting:
        file = waiting.pop()
        source = (root / file).read_text("utf-8")
        module = found[file] = _module(source)
        _check_packages_exist(module.packages, file, root)
        names = module.names
        if file == RULES_TABLE and rule is not None:
            names -= _unselected(ast.parse(source), rule)
        waiting |= {f for f in _files_of(names, root) - found.keys() if not is_free(f)}
    if rule is not None:
        found.pop(RULES_TABLE, None)
    return found


def _check_packages_exist(packages: Iterable[str], file: str, root: Path) -> None:
    """Refuse code that imports a module of the project that is not there.

    Raises:
        UserError: names it. DVC copies into the folder of a queued run only what git knows.
    """
    for package in packages:
        path = package.replace(".", "/")
        if (
            path.split("/")[0] in PACKAGES
            and not (root / f"{path}.py").is_file()
            and not (root / path).is_dir()
        ):
            raise UserError(
                f"{path}.py, which {file} imports, is not in {root}; a queued or temporary run has "
                f"only files that git knows: `git add {path}.py`, then queue it again"
            )


def _imported_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(names: Iterable[str], root: Path) -> set[str]:
    """Files of the project with some modules and, as Python does, their packages' __init__."""
    files = set()
    for name in names:
        parts = name.split(".")
        if parts[0] not in PACKAGES:
            continue
        for length in range(1, len(parts) + 1):
            stem = "/".join(parts[:length])
            files |= {f for f in (f"{stem}.py", f"{stem}/__init__.py") if (root / f).is_file()}
    return files


def _unselected(tree: ast.Module, rule: str) -> set[str]:
    """Modules that the table of rules imports for other rules than the selected one."""
    classes = {
        ast.literal_eval(key): value.id
        for table in ast.walk(tree)
        if isinstance(table, ast.Dict)
        for key, value in zip(table.keys, table.values, strict=True)
        if key is not None and isinstance(value, ast.Name)
    }
    others = set(classes.values()) - {classes[rule]}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {
        name
        for node in imports
        if any(alias.name in others for alias in node.names)
        for name in (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))
    }


def decisive_text(source: str) -> str:
    """Source without comments, docstrings, blank lines and spaces at line ends.

    Lines that end inside any other string stay as they are.
    """
    return _decisive_text(source, list(ast.walk(ast.parse(source))))


def _decisive_text(source: str, nodes: Sequence[ast.AST]) -> str:
    lines = [list(line) for line in source.split("\n")]
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    docstrings = list(_docstrings(source, nodes))
    kept = _lines_that_end_in_a_string(tokens)
    for first, _, last, _ in docstrings:
        kept -= set(range(first, last))
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    for first, start, last, end in (*docstrings, *((*c.start, *c.end) for c in comments)):
        for number in range(first, last + 1):
            line = lines[number - 1]
            from_column = start if number == first else 0
            to_column = end if number == last else len(line)
            line[from_column:to_column] = " " * (to_column - from_column)
    texts = [
        "".join(line) if number in kept else "".join(line).rstrip()
        for number, line in enumerate(lines, 1)
    ]
    return "\n".join(text for number, text in enumerate(texts, 1) if text or number in kept)


Span = tuple[int, int, int, int]
"""First line, column in it, last line, column in that; lines from 1, columns in characters."""


def _docstrings(source: str, nodes: Iterable[ast.AST]) -> Iterator[Span]:
    """Strings that are statements: docstrings of modules, classes, functions and attributes.

    One that is the whole body is kept, since a body must not be empty.
    """
    lines = source.split("\n")

    def column(line: int, offset_bytes: int) -> int:
        return len(lines[line - 1].encode()[:offset_bytes].decode())

    for node in nodes:
        body = getattr(node, "body", None)
        if not isinstance(body, list) or (len(body) == 1 and not isinstance(node, ast.Module)):
            continue
        for item in body:
            if (
                isinstance(item, ast.Expr)
                and isinstance(item.value, ast.Constant)
                and isinstance(item.value.value, str)
                and item.end_lineno is not None
                and item.end_col_offset is not None
            ):
                start = column(item.lineno, item.col_offset)
                yield (
                    item.lineno,
                    start,
                    item.end_lineno,
                    column(item.end_lineno, item.end_col_offset),
                )


def _lines_that_end_in_a_string(tokens: Iterable[tokenize.TokenInfo]) -> set[int]:
    strings = (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None))  # the latter from 3.12
    return {
        line
        for token in tokens
        if token.type in strings
        for line in range(token.start[0], token.end[0])
    }
