"""What a dataset consists of: the records of download and of verify.

The download record says which shards belong to the dataset and how large they are, the manifest
what was found in each. Both are JSON, the same bytes for the same content, and read strictly.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from ramengpt.data.shards.format import (
    HEADER_BYTES,
    MAGIC,
    VERSION,
    Fault,
    ShardError,
    ShardHeader,
    Split,
)
from ramengpt.errors import shown
from ramengpt.files import open_regular, write_bytes

DOWNLOAD_RECORD_PATH = Path("data/download.json")
MANIFEST_PATH = Path("data/manifest.json")


@dataclass(frozen=True)
class DownloadedShard:
    """A shard as its source announces it.

    Attributes:
        file: name inside the store's folder.
        split: "val" or "train".
        bytes: size of the file.
        sha256: checksum that the content must have, 64 hexadecimal digits.
    """

    file: str
    split: Split
    bytes: int
    sha256: str


@dataclass(frozen=True)
class DownloadRecord:
    """The shards of a dataset, in the order in which training reads them.

    Attributes:
        dataset: its name in params.yaml.
        shards: validation first.
        text: of a dataset that is tokenised here, as JSON values: what was `read`, what was
            `left_out` and why, and `counts` of documents; None of any other.
    """

    dataset: str
    shards: tuple[DownloadedShard, ...]
    text: dict[str, Any] | None = None


@dataclass(frozen=True)
class ManifestShard:
    """A shard as verify found it.

    Attributes:
        file: name inside the store's folder.
        split: "val" or "train".
        tokens: number of tokens.
        documents: number of tokens that open a document.
        bytes: size of the file.
        sha256: checksum of the file, 64 hexadecimal digits.
        magic: first field of the header.
        version: second field of the header.
    """

    file: str
    split: Split
    tokens: int
    documents: int
    bytes: int
    sha256: str
    magic: int
    version: int


@dataclass(frozen=True)
class Manifest:
    """The verified shards of a dataset, in the order in which training reads them."""

    dataset: str
    shards: tuple[ManifestShard, ...]

    def split(self, split: Split) -> tuple[ManifestShard, ...]:
        """The shards of one split, in order."""
        return tuple(shard for shard in self.shards if shard.split == split)


def write_download_record(record: DownloadRecord, path: Path = DOWNLOAD_RECORD_PATH) -> None:
    """Write the download record whole (see :func:`ramengpt.files.atomic_writer`)."""
    _write(record, path)


def write_manifest(manifest: Manifest, path: Path = MANIFEST_PATH) -> None:
    """Write the manifest whole (see :func:`ramengpt.files.atomic_writer`)."""
    _write(manifest, path)


def read_download_record(path: Path = DOWNLOAD_RECORD_PATH) -> DownloadRecord:
    """Read the download record.

    Raises:
        ShardError: no such file, or a key that does not belong: the line names it.
    """
    reader = _Reader(path, advice="run `python -m pipeline.download`")
    dataset, entries, text = reader.read(DownloadedShard, further="text")
    return DownloadRecord(dataset, tuple(DownloadedShard(**entry) for entry in entries), text)


def read_manifest(path: Path = MANIFEST_PATH) -> Manifest:
    """Read the manifest.

    Raises:
        ShardError: no such file, or a key that does not belong: the line names it.
    """
    reader = _Reader(path, advice="run `python -m pipeline.verify`")
    dataset, entries, _ = reader.read(ManifestShard)
    return Manifest(dataset, tuple(ManifestShard(**entry) for entry in entries))


def _write(content: DownloadRecord | Manifest, path: Path) -> None:
    write_bytes(path, (json.dumps(asdict(content), indent=2, sort_keys=True) + "\n").encode())


class _Reader:
    """Parses a download record or a manifest strictly; errors name the key."""

    def __init__(self, path: Path, advice: str) -> None:
        self.path = path
        self.advice = advice

    def read(
        self, kind: type[DownloadedShard | ManifestShard], further: str | None = None
    ) -> tuple[str, list[dict[str, Any]], Any]:
        """The dataset's name, the entries of `shards`, each fit to build a `kind`, and one more."""
        content = self._load()
        keys = {"dataset", "shards"} | ({further} if further else set())
        self._require_keys("top level", content, keys)
        dataset, entries = content["dataset"], content["shards"]
        self._require("dataset", isinstance(dataset, str) and dataset, "a name", dataset)
        self._require("shards", isinstance(entries, list), "a list", entries)
        names = {field.name for field in fields(kind)}
        for number, entry in enumerate(entries):
            self._require_keys(f"shards[{number}]", entry, names)
            for key, value in entry.items():
                expected, fits = _RULES[key]
                self._require(f"shards[{number}].{key}", fits(value), expected, value)
            if "tokens" in entry:
                whole = ShardHeader(entry["magic"], entry["version"], entry["tokens"]).file_bytes
                fits_tokens = entry["bytes"] == whole
                self._require(f"shards[{number}].bytes", fits_tokens, str(whole), entry["bytes"])
        files = [entry["file"] for entry in entries]
        self._require("shards", len(set(files)) == len(files), "each file once", files)
        splits = [entry["split"] for entry in entries]
        ordered = sorted(splits, key=get_args(Split).index) == splits
        self._require("shards", ordered, "val shards before train shards", splits)
        complete = set(splits) == set(get_args(Split))
        self._require("shards", complete, "at least one val and one train shard", splits)
        return dataset, entries, content[further] if further else None

    def _load(self) -> Any:
        try:
            with open_regular(self.path) as file:
                return json.loads(file.read())
        except OSError as error:
            raise self._error("file", "a readable file", str(error.strerror)) from error
        except (ValueError, RecursionError) as error:
            raise self._error("file", "JSON", f"a fault: {error}") from error

    def _require_keys(self, where: str, found: Any, names: set[str]) -> None:
        self._require(where, isinstance(found, dict), "an object", found)
        self._require(f"{where}, keys", set(found) == names, str(sorted(names)), sorted(found))

    def _require(self, where: str, fits: Any, expected: str, found: Any) -> None:
        if not fits:
            raise self._error(where, expected, shown(found))

    def _error(self, where: str, expected: str, found: str) -> ShardError:
        return ShardError(Fault(str(self.path), where, expected, found, self.advice))


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _matches(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "file": (
        "a file name of letters, digits, '.', '-' and '_' that ends in .bin",
        lambda value: _matches(value, r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,250}\.bin"),
    ),
    "split": (f"one of {get_args(Split)}", lambda value: value in get_args(Split)),
    "tokens": ("at least 1", lambda value: _is_count(value, 1)),
    "documents": ("0 or more", lambda value: _is_count(value, 0)),
    "bytes": (f"more than {HEADER_BYTES}", lambda value: _is_count(value, HEADER_BYTES + 1)),
    "sha256": ("64 hexadecimal digits", lambda value: _matches(value, "[0-9a-f]{64}")),
    "magic": (str(MAGIC), lambda value: _is_count(value, MAGIC) and value == MAGIC),
    "version": (str(VERSION), lambda value: _is_count(value, VERSION) and value == VERSION),
}
