"""Which modules of the project a file imports, read from its syntax tree."""

import ast
from pathlib import Path

from tests.conftest import ROOT

PACKAGES = ("ramengpt", "pipeline", "benchmarks")


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def project_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def imported_names(file: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names of everything a file imports, `from a import b` as both a and a.b."""
    tree = ast.parse(file.read_text())
    statements = _top_level(tree) if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for statement in statements:
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            names.add(statement.module)
            names |= {f"{statement.module}.{alias.name}" for alias in statement.names}
    return names


def _top_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run when a module is imported, those under `if TYPE_CHECKING` left out."""
    return [statement for statement in tree.body if not isinstance(statement, ast.If)]


def imported_files(file: Path) -> set[Path]:
    """Files of the project that a file imports, the packages' own __init__ files included."""
    files: set[Path] = set()
    for name in imported_names(file):
        parts = name.split(".")
        if parts[0] not in PACKAGES:
            continue
        for length in range(1, len(parts) + 1):
            stem = ROOT.joinpath(*parts[:length])
            files |= {f for f in (stem.with_suffix(".py"), stem / "__init__.py") if f.is_file()}
    return files


def import_closure(file: Path) -> set[Path]:
    """Files of the project that a file imports, and those that they import, and so on."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        for imported in imported_files(waiting.pop()) - found:
            found.add(imported)
            waiting.append(imported)
    return found
