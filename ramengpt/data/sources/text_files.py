"""The user's own text: which files the patterns in params.yaml name, and what reads each."""

from pathlib import Path

from ramengpt.data.text.readers import JsonLinesFile, ParquetFile, TextFile
from ramengpt.errors import UserError

SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".jsonl.xz", ".jsonl.zst", ".parquet")

TextSource = TextFile | JsonLinesFile | ParquetFile


def find_sources(paths: list[str], field: str, root: Path) -> list[TextSource]:
    """Open the files that `datasets.text.paths` names, sorted by path.

    Raises:
        UserError: a pattern matches nothing, or a file has another suffix.
    """
    found: dict[Path, TextSource] = {}
    for pattern in paths:
        whole = Path(pattern).expanduser()
        anchor = Path(whole.anchor) if whole.is_absolute() else root
        relative = str(whole.relative_to(whole.anchor)) if whole.is_absolute() else str(whole)
        files = [path for path in sorted(anchor.glob(relative)) if path.is_file()]
        if not files:
            raise UserError(
                f"datasets.text.paths: {pattern!r} matches no file in {anchor}; put your "
                f"{', '.join(SUFFIXES)} files there or change paths"
            )
        found |= {path: open_source(path, field) for path in files}
    return [found[path] for path in sorted(found)]


def open_source(path: Path, field: str) -> TextSource:
    """Pick the reader of a file by its suffix.

    Raises:
        UserError: none fits.
    """
    if path.suffix == ".txt":
        return TextFile(path, field)
    if path.suffix == ".parquet":
        return ParquetFile(path, field)
    if path.name.endswith(SUFFIXES):
        return JsonLinesFile(path, field)
    raise UserError(f"{path}: expected one of {', '.join(SUFFIXES)}; change datasets.text.paths")
