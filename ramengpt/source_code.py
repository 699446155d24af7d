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
import hashlib
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

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
    return {
        file: hashlib.sha256(decisive_text((root / file).read_text("utf-8")).encode()).hexdigest()[
            :16
        ]
        for file in sorted(_closure(entry, rule, root))
    }


def stage_code(stage: str, rule: str, root: Path = ROOT) -> dict[str, str]:
    """The code of a stage of dvc.yaml; `rule` is the selected update rule."""
    return code_of(f"pipeline/{stage}.py", rule, root)


def _closure(entry: str, rule: str | None, root: Path) -> set[str]:
    found = {entry}
    waiting = [entry]
    while waiting:
        file = waiting.pop()
        tree = ast.parse((root / file).read_text("utf-8"))
        _check_imports_exist(tree, file, root)
        names = set(imported_names(tree))
        if file == RULES_TABLE and rule is not None:
            names -= _unselected(tree, rule)
        new = {f for f in _files_of(names, root) - found if not is_free(f)}
        found |= new
        waiting += new
    if rule is not None:
        found.discard(RULES_TABLE)
    return found


def _check_imports_exist(tree: ast.AST, file: str, root: Path) -> None:
    """Refuse code that imports a module of the project that is not there.

    Raises:
        UserError: names it. DVC copies into the folder of a queued run only what git knows.
    """
    for statement in ast.walk(tree):
        if not isinstance(statement, ast.ImportFrom) or not statement.module:
            continue
        path = statement.module.replace(".", "/")
        if (
            path.split("/")[0] in PACKAGES
            and not (root / f"{path}.py").is_file()
            and not (root / path).is_dir()
        ):
            raise UserError(
                f"{path}.py, which {file} imports, is not in {root}; a queued or temporary run has "
                f"only files that git knows: `git add {path}.py`, then queue it again"
            )


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything that is imported, `from a import b` as both a and a.b."""
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def _files_of(names: set[str], root: Path) -> set[str]:
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
    lines = [list(line) for line in source.split("\n")]
    docstrings = list(_docstrings(source))
    kept = _lines_that_end_in_a_string(source)
    for first, _, last, _ in docstrings:
        kept -= set(range(first, last))
    for first, start, last, end in (*docstrings, *_comments(source)):
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


def _docstrings(source: str) -> Iterator[Span]:
    """Strings that are statements: docstrings of modules, classes, functions and attributes.

    One that is the whole body is kept, since a body must not be empty.
    """
    lines = source.split("\n")

    def column(line: int, offset_bytes: int) -> int:
        return len(lines[line - 1].encode()[:offset_bytes].decode())

    for node in ast.walk(ast.parse(source)):
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


def _lines_that_end_in_a_string(source: str) -> set[int]:
    strings = (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None))  # the latter from 3.12
    return {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in strings
        for line in range(token.start[0], token.end[0])
    }


def _comments(source: str) -> Iterator[Span]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield (*token.start, *token.end)
