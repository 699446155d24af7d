"""Where documents start: for every shard, the offsets of its BOS tokens in an .npy file.

The folder data/index holds one memory-mappable int64 array per shard, and index.json, which records
by checksums which shard each was made from and what it contains. So an index that is missing,
damaged or older than its shard is noticed before it is used.
"""

import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramengpt.data.shards.checksums import file_sha256
from ramengpt.data.shards.format import BOS_TOKEN, Fault, ShardError, Tokens, open_shard
from ramengpt.data.shards.manifest import Manifest, ManifestShard
from ramengpt.files import atomic_writer, open_regular, write_bytes

INDEX_FOLDER = Path("data/index")
INDEX_FILE = "index.json"
CHUNK_TOKENS = 2**20  # large enough that calls cost nothing, small enough for a core's cache
ROWS = 8
ADVICE = "run `python -m pipeline.index`"

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


def index_path(shard_file: str, folder: Path) -> Path:
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
        file.write(_npy_header(documents))
        for offsets in scan_documents(tokens):
            file.write(offsets.astype("<i8", copy=False).data)
            documents += offsets.size
        file.seek(0)
        file.write(_npy_header(documents))  # numpy pads it to one size for any count
    return documents


def _npy_header(count: int) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<i8", "fortran_order": False, "shape": (count,)}
    )
    return header.getvalue()


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
        advance: called after every shard with its number of tokens.

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


def open_offsets(path: Path, documents: int, num_tokens: int) -> Offsets:
    """Map a shard's offsets into memory, read-only.

    Args:
        path: the .npy file.
        documents: how many there must be.
        num_tokens: length of the shard, which every offset must be below.

    Raises:
        ShardError: it cannot be read, or is no ascending int64 array of that length.
    """
    header = _npy_header(documents)
    try:
        with open_regular(path) as file:
            found_header = file.read(len(header))
            found_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        found = str(error.strerror)
        raise ShardError(Fault(str(path), "file", "a readable .npy", found, ADVICE)) from error
    expected_bytes = len(header) + 8 * documents
    if found_header != header or found_bytes != expected_bytes:
        expected = f"int64 [{documents}], {expected_bytes} bytes with its header"
        found = f"{found_bytes} bytes" + (", another header" if found_header != header else "")
        raise ShardError(Fault(str(path), "array", expected, found, ADVICE))
    if not documents:
        return np.zeros(0, dtype=np.int64)
    offsets = np.memmap(path, "<i8", mode="r", offset=len(header), shape=(documents,))
    first, last = int(offsets[0]), int(offsets[-1])
    if first < 0 or last >= num_tokens or not (offsets[1:] > offsets[:-1]).all():
        expected = f"ascending, from 0 to below {num_tokens}"
        found = f"others, from {first} to {last}"
        raise ShardError(Fault(str(path), "offsets", expected, found, ADVICE))
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
        with open_regular(path) as file:
            content: Any = json.loads(file.read())
    except OSError as error:
        found = str(error.strerror)
        raise ShardError(Fault(str(path), "file", "a readable index", found, ADVICE)) from error
    except (ValueError, RecursionError) as error:
        raise ShardError(Fault(str(path), "file", "JSON", str(error), ADVICE)) from error
    entries = content.get("shards") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        raise ShardError(Fault(str(path), "file", "an index", "other JSON", ADVICE))
    return {entry["shard"]: IndexEntry(**entry) for entry in entries}


def _is_entry(value: Any) -> bool:
    kinds = {field.name: field.type for field in fields(IndexEntry)}
    return (
        isinstance(value, dict)
        and value.keys() == kinds.keys()
        and all(type(value[key]) is kind for key, kind in kinds.items())
    )


def _entry_faults(shard: ManifestShard, entry: IndexEntry | None, path: Path) -> list[Fault]:
    if entry is None:
        expected = f"an entry for {shard.file}"
        return [Fault(str(path.parent / INDEX_FILE), "shards", expected, "none", ADVICE)]
    if entry.shard_sha256 != shard.sha256:
        where = "the shard that it was made from (sha256)"
        expected = f"{shard.sha256} (data/manifest.json)"
        return [Fault(str(path), where, expected, f"{entry.shard_sha256} (stale)", ADVICE)]
    if entry.documents != shard.documents:
        where, expected = "number of documents", f"{shard.documents} (data/manifest.json)"
        return [Fault(str(path), where, expected, str(entry.documents), ADVICE)]
    try:
        found = file_sha256(path)
    except OSError as error:
        return [Fault(str(path), "file", "a readable .npy", str(error.strerror), ADVICE)]
    if found != entry.sha256:
        return [Fault(str(path), "sha256", f"{entry.sha256} (index.json)", found, ADVICE)]
    return []
