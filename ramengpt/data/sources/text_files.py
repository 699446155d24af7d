"""The user's own text: which files the patterns in params.yaml name, and what reads each.

Left out, and listed: hidden files and folders, what file managers and editors leave behind, what
is not a regular file, and further names of the same file. Links to files and folders are followed.
Any other file that no reader fits is an error.
"""

import errno
import functools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ramengpt.config.dataset import TextConfig
from ramengpt.data.text.input_file import InputFile
from ramengpt.data.text.parquet import ParquetFile
from ramengpt.data.text.readers import JsonLinesFile, TextFile, TextSource
from ramengpt.errors import UserError, shown, shown_path

SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".jsonl.xz", ".jsonl.zst", ".parquet")
SYSTEM_NAMES = ("thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "lost+found")
WILDCARDS = "*?["


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that a pattern names and that is not read."""

    path: Path
    reason: str


@dataclass(frozen=True)
class FoundText:
    """What the patterns name.

    Attributes:
        sources: what reads each file, sorted by path.
        left_out: the rest, sorted by path.
    """

    sources: tuple[TextSource, ...]
    left_out: tuple[LeftOut, ...]


def find_text(config: TextConfig, root: Path) -> FoundText:
    """Find the files that `datasets.text.paths` names.

    Args:
        config: patterns, and how files are read.
        root: where relative patterns begin.

    Raises:
        UserError: a pattern names no file, or a file has another suffix or cannot be looked at.
    """
    names: set[Path] = set()
    left_out: dict[Path, str] = {}
    for pattern in config.paths:
        matches = list(_matches(pattern, root, left_out))
        if not matches:
            raise UserError(
                f"datasets.text.paths: {shown(pattern)} matches no file in {root}; put your "
                f"{', '.join(SUFFIXES)} files there or change paths"
            )
        names.update(matches)
    seen: dict[tuple[int, int], Path] = {}
    sources = []
    for path in sorted(names):
        status = path.stat()
        first = seen.setdefault((status.st_dev, status.st_ino), path)
        if first is path:
            sources.append(open_source(path, config))
        else:
            left_out[path] = f"the same file as {first}"
    return FoundText(
        tuple(sources), tuple(LeftOut(path, left_out[path]) for path in sorted(left_out))
    )


def open_source(path: Path, config: TextConfig) -> TextSource:
    """Pick the reader of a file by its suffix, in upper or lower case.

    Raises:
        UserError: none fits.
    """
    name = path.name.lower()
    if name.endswith(".txt"):
        return TextFile(InputFile.at(path), config.document_separator)
    if name.endswith(".parquet"):
        return ParquetFile(InputFile.at(path), config.text_field)
    if name.endswith(SUFFIXES):
        return JsonLinesFile(InputFile.at(path), config.text_field)
    raise UserError(
        f"{shown_path(path)}: expected one of {', '.join(SUFFIXES)}; remove the file or change "
        "datasets.text.paths"
    )


def _matches(pattern: str, root: Path, left_out: dict[Path, str]) -> Iterator[Path]:
    """The files that a pattern names; what is left out is added to `left_out`."""
    parts = (root / Path(pattern).expanduser()).parts
    fixed = next((n for n, part in enumerate(parts) if set(part) & set(WILDCARDS)), len(parts))
    base = Path(os.path.realpath(Path(*parts[:fixed])))  # Path.resolve raises at circles of links
    if fixed == len(parts):
        if os.path.isdir(base):  # noqa: PTH112 - Path.is_dir raises where it may not look
            everything = shown(f"{pattern}/**/*")
            raise UserError(
                f"datasets.text.paths: {shown(pattern)} is a folder; write {everything}"
            )
        if os.path.lexists(base):
            if why := _why_not_read(base):
                raise UserError(f"datasets.text.paths: {shown(pattern)} is {why}; name a file")
            yield base
        return
    for path, reason in _walk(base):
        fits = _fits(path.relative_to(base).parts, parts[fixed:])
        why = reason or (_why_not_read(path) if fits else "")
        if why and (fits or path.is_dir()):
            left_out[path] = why
        elif fits:
            yield path


def _why_not_read(path: Path) -> str:
    try:
        return "" if stat.S_ISREG(path.stat().st_mode) else "not a regular file"
    except FileNotFoundError:
        return "a link to nothing"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a link in a circle of links"
        raise UserError(
            f"{shown_path(path)}: cannot be read ({error.strerror}); fix or remove it"
        ) from None


def _walk(base: Path) -> Iterator[tuple[Path, str]]:
    """Files below a folder, and why one is left out.

    Every folder is entered once: by its own path, or else by the first link to it.
    """
    pending, seen = [base], set()
    links: list[Path] = []
    while pending or links:
        folder = pending.pop() if pending else links.pop(0)
        try:
            status = folder.stat()
            entries = sorted(folder.iterdir())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(
                f"{shown_path(folder)}: cannot be listed ({error.strerror}); fix its permissions "
                "or change datasets.text.paths"
            ) from None
        if (status.st_dev, status.st_ino) in seen:
            yield folder, "a further name of a folder that is read"
            continue
        seen.add((status.st_dev, status.st_ino))
        folders: list[Path] = []
        for path in entries:
            if reason := _ignored(path.name):
                yield path, reason
            elif os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where it may not look
                (links if path.is_symlink() else folders).append(path)
            else:
                yield path, ""
        pending += reversed(folders)


def _ignored(name: str) -> str:
    if name.startswith("."):
        return "hidden"
    program = name.lower() in SYSTEM_NAMES or name.startswith("~$") or name.endswith("~")
    return "left behind by a program" if program else ""


@functools.cache  # several ** would try every split of the path
def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path fits a pattern, part by part; `**` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(parts)
        return any(_fits(parts[start:], pattern[1:]) for start in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])
