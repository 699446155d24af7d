"""Where documents start: for every shard, the offsets of its BOS tokens in an .npy file.

The folder data/index holds one int64 array a shard, to be mapped into memory, and index.json, which
says by checksums which shard each was made from and what it contains. So an index that is missing,
damaged or older than its shard is noticed before anything is read through it.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ramengpt.data.shards.checksums import file_sha256
from ramengpt.data.shards.format import BOS_TOKEN, Fault, ShardError, Tokens, open_shard
from ramengpt.data.shards.manifest import Manifest, ManifestShard
from ramengpt.files import atomic_writer, write_bytes

INDEX_FOLDER = Path("data/index")
INDEX_FILE = "index.json"
CHUNK_TOKENS = 2**20  # large enough that calls cost nothing, small enough for a core's cache
ROWS = 8
MEND = "run `python -m pipeline.index`"

Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class IndexEntry:
    """What index.json says of one shard.

    Attributes:
        shard: file name of the shard.
        shard_sha256: the shard that was indexed.
        documents: number of offsets.
        sha256: checksum of the .npy file.
    """

    shard: str
    shard_sha256: str
    documents: int
    sha256: str


def scan_documents(tokens: Tokens, chunk_tokens: int = CHUNK_TOKENS) -> Iterator[Offsets]:
    """Find the BOS tokens of a shard in one pass.

    BOS is the highest token id: the maximum of eight tokens says whether one of them can be it,
    and only those few eights are looked at again.

    Args:
        tokens: uint16 [number of tokens], mapped or not.
        chunk_tokens: how many to look at at once.

    Yields:
        int64 [documents of a chunk], offsets from the shard's first token, ascending.
    """
    plain = tokens.view(np.ndarray)
    for start in range(0, plain.size, chunk_tokens):
        chunk = plain[start : start + chunk_tokens]
        columns = chunk.size // ROWS
        rows = chunk[: ROWS * columns].reshape(ROWS, columns)
        likely = np.flatnonzero(rows.max(axis=0) >= BOS_TOKEN)
        found = np.flatnonzero(rows.take(likely, axis=1) == BOS_TOKEN)
        row, place = np.divmod(found, max(1, likely.size))
        rest = np.flatnonzero(chunk[ROWS * columns :] == BOS_TOKEN)
        yield start + np.concatenate([columns * row + likely[place], ROWS * columns + rest])


def index_path(shard_file: str, folder: Path = INDEX_FOLDER) -> Path:
    """Where the offsets of a shard lie."""
    return folder / f"{Path(shard_file).stem}.npy"


def index_shard(shard_path: Path, path: Path) -> int:
    """Write the offsets of a shard's documents, in memory that does not grow with their number.

    Args:
        shard_path: the shard.
        path: the .npy file to write.

    Returns:
        Number of documents.

    Raises:
        ShardError: the shard's header or size is wrong.
    """
    tokens = open_shard(shard_path)
    documents = 0
    with atomic_writer(path) as file:
        header_bytes = _write_npy_header(file, documents)
        for offsets in scan_documents(tokens):
            file.write(offsets.astype("<i8", copy=False).data)
            documents += offsets.size
        file.seek(0)
        assert _write_npy_header(file, documents) == header_bytes, "numpy pads for any count"
    return documents


def _write_npy_header(file: BinaryIO, count: int) -> int:
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<i8", "fortran_order": False, "shape": (count,)}
    )
    return file.tell()


def build_index(
    manifest: Manifest,
    store_folder: Path,
    folder: Path = INDEX_FOLDER,
    advance: Callable[[int], None] = lambda num_tokens: None,
) -> None:
    """Index every shard of the manifest; offsets of other shards go first, index.json comes last.

    Args:
        manifest: the shards, already checked against it.
        store_folder: where they lie.
        folder: where the index goes.
        advance: told after every shard how many tokens it has.

    Raises:
        ShardError: a shard's header, size or number of documents is not as the manifest says.
    """
    for old in (folder / INDEX_FILE, *folder.glob("*.npy")):
        old.unlink(missing_ok=True)
    entries = []
    for shard in manifest.shards:
        path = index_path(shard.file, folder)
        documents = index_shard(store_folder / shard.file, path)
        if documents != shard.documents:
            where = "number of documents"
            expected = f"{shard.documents} (data/manifest.json)"
            raise ShardError(Fault(shard.file, where, expected, str(documents)))
        entries.append(IndexEntry(shard.file, shard.sha256, documents, file_sha256(path)))
        advance(shard.tokens)
    content = {"dataset": manifest.dataset, "shards": [asdict(entry) for entry in entries]}
    write_bytes(
        folder / INDEX_FILE, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
    )


def open_offsets(path: Path, documents: int) -> Offsets:
    """Map a shard's offsets into memory, read-only.

    Args:
        path: the .npy file.
        documents: how many there must be.

    Raises:
        ShardError: it cannot be read, or is no int64 array of that length.
    """
    try:
        offsets = np.load(path, mmap_mode="r" if documents else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ShardError(Fault(str(path), "file", "a readable .npy", str(error), MEND)) from error
    if offsets.dtype != np.dtype("<i8") or offsets.shape != (documents,):
        found = f"{offsets.dtype} {list(offsets.shape)}"
        raise ShardError(Fault(str(path), "array", f"int64 [{documents}]", found, MEND))
    return offsets


def check_index(manifest: Manifest, folder: Path = INDEX_FOLDER) -> None:
    """Refuse an index that was not made from the shards of the manifest.

    Raises:
        ShardError: with every file that is missing, stale or damaged.
    """
    entries = _read_entries(folder / INDEX_FILE)
    faults = []
    for shard in manifest.shards:
        faults += _entry_faults(shard, entries.get(shard.file), index_path(shard.file, folder))
    if faults:
        raise ShardError(*faults)


def _read_entries(path: Path) -> dict[str, IndexEntry]:
    try:
        content: Any = json.loads(path.read_bytes())
        entries = [IndexEntry(**entry) for entry in content["shards"]]
    except OSError as error:
        found = str(error.strerror)
        raise ShardError(Fault(str(path), "file", "a readable index", found, MEND)) from error
    except (ValueError, TypeError, KeyError) as error:
        raise ShardError(Fault(str(path), "file", "an index", repr(error), MEND)) from error
    return {entry.shard: entry for entry in entries}


def _entry_faults(shard: ManifestShard, entry: IndexEntry | None, path: Path) -> list[Fault]:
    if entry is None:
        expected = f"an entry for {shard.file}"
        return [Fault(str(path.parent / INDEX_FILE), "shards", expected, "none", MEND)]
    if entry.shard_sha256 != shard.sha256:
        where = "the shard that it was made from (sha256)"
        expected = f"{shard.sha256} (data/manifest.json)"
        return [Fault(str(path), where, expected, f"{entry.shard_sha256} (stale)", MEND)]
    if entry.documents != shard.documents:
        where, expected = "number of documents", f"{shard.documents} (data/manifest.json)"
        return [Fault(str(path), where, expected, str(entry.documents), MEND)]
    try:
        found = file_sha256(path)
    except OSError as error:
        return [Fault(str(path), "file", "a readable .npy", str(error.strerror), MEND)]
    if found != entry.sha256:
        return [Fault(str(path), "sha256", f"{entry.sha256} (index.json)", found, MEND)]
    return []
