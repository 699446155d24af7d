"""What the shards in a store were made from, kept beside them, so that only what changed is redone.

A shard is intact if it is recorded here for the source that is asked for, and its header, size and
checksum are what they were when it was recorded. What is not recorded as made or fetched by the
toolkit is the user's, and is never replaced.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ramengpt.data.shards.checksums import Checksums
from ramengpt.data.shards.format import Split, inspect_shard
from ramengpt.data.shards.manifest import DownloadedShard
from ramengpt.errors import UserError
from ramengpt.files import open_regular, write_bytes
from ramengpt.source_code import decisive_text

PROVENANCE_NAME = ".provenance.json"

Position = tuple[int, int, int]
"""Where a text resumes: number of the source file, of the record in it, of the token in that."""

TEXT_START: Position = (0, 0, 0)
UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError),
)
"""What reading a file of JSON that holds something else can raise."""


@dataclass(frozen=True)
class ShardOrigin:
    """One recorded shard.

    Attributes:
        sha256: checksum of the file.
        end: where the source resumes after the shard's last token; TEXT_START if meaningless.
        last: whether the source ended with this shard.
        counts: of what was read, e.g. documents, by name.
    """

    sha256: str
    end: Position
    last: bool
    counts: dict[str, int]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "ShardOrigin":
        """Read what :meth:`Provenance.save` wrote.

        Raises:
            ValueError, TypeError, KeyError, AttributeError, OverflowError: it wrote something else.
        """
        source, record, token = (int(number) for number in content["end"])
        counts = {str(name): int(count) for name, count in content["counts"].items()}
        if min(source, record, token, *counts.values()) < 0:
            raise ValueError("positions and counts begin at 0")
        return cls(str(content["sha256"]), (source, record, token), bool(content["last"]), counts)


def code_digest(files: Iterable[Path]) -> str:
    """Hash what Python files do (see :func:`ramengpt.source_code.decisive_text`)."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.name}\0{decisive_text(file.read_text('utf-8'))}\0".encode())
    return digest.hexdigest()


class Provenance:
    """The record of one store.

    Args:
        folder: the store's folder; need not exist yet.
        source: everything that determines the shards' content, as JSON values. A record of
            another source is ignored.

    Attributes:
        replaced: the store holds, or held, shards of another source.
        ours: names of all shards that the toolkit ever put there, for whatever source.
        pinned: commit that the recorded shards come from, kept with them; may be set while empty.
    """

    def __init__(self, folder: Path, source: dict[str, Any]) -> None:
        self.folder = folder
        self.source: dict[str, Any] = json.loads(json.dumps(source))
        self.checksums = Checksums(folder)
        self.replaced = False
        self.ours: set[str] = set()
        self.pinned = ""
        self.origins = self._load()

    def _load(self) -> dict[str, ShardOrigin]:
        """What is recorded; a file that cannot be read only costs the work of rebuilding."""
        try:
            with open_regular(self.folder / PROVENANCE_NAME) as file:
                content = json.loads(file.read())
            origins = {
                name: ShardOrigin.from_json(origin) for name, origin in content["shards"].items()
            }
            self.ours = {str(name) for name in content.get("ours", origins)}
            if content["source"] != self.source:
                self.replaced = True
                return {}
            self.pinned = str(content["pinned"])
            return origins
        except UNREADABLE:
            return {}

    def claim(self, file: str) -> None:
        """Record, before a shard is put in place, that it is the toolkit's own.

        Raises:
            UserError: there is a file of that name that somebody else put there.
        """
        path = self.folder / file
        if file in self.ours:
            return
        if path.exists() or path.is_symlink():
            raise UserError(
                f"{path}: not a file that the toolkit put there, and not what the dataset needs; "
                "move it away, or let DATA_PATH name another folder"
            )
        self.ours.add(file)
        self.save()

    def intact(self, file: str) -> bool:
        """Whether a shard is recorded and still what it was."""
        origin = self.origins.get(file)
        return (
            origin is not None
            and not inspect_shard(self.folder / file)[1]
            and self.checksums.sha256(file) == origin.sha256
        )

    def record(
        self,
        file: str,
        *,
        end: Position = TEXT_START,
        last: bool = False,
        counts: dict[str, int] | None = None,
    ) -> None:
        """Record a shard that has just been put in place, and save."""
        self.origins[file] = ShardOrigin(self.checksums.sha256(file), end, last, counts or {})
        self.save()

    def end_with(self, file: str) -> None:
        """Record that the source ended with a recorded shard, and save."""
        if file in self.origins:
            self.origins[file] = replace(self.origins[file], last=True)
            self.save()

    def forget(self, files: list[str]) -> None:
        """Drop shards from the record, so that they are rebuilt, and save."""
        for file in files:
            self.origins.pop(file, None)
        self.save()

    def save(self) -> None:
        """Write the record and the cache of checksums, whole."""
        content = {
            "source": self.source,
            "pinned": self.pinned,
            "ours": sorted(self.ours),
            "shards": {file: asdict(origin) for file, origin in sorted(self.origins.items())},
        }
        write_bytes(self.folder / PROVENANCE_NAME, (json.dumps(content, indent=1) + "\n").encode())
        self.checksums.save()

    def shard(self, file: str) -> DownloadedShard:
        """Describe a recorded shard for the download record."""
        split: Split = "val" if file.rsplit("_", 2)[1] == "val" else "train"
        size = (self.folder / file).stat().st_size
        return DownloadedShard(file, split, size, self.origins[file].sha256)
