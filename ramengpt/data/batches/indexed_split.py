"""One split's shards, lazily memory-mapped, one at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

from ramengpt.data.index.bos_index import INDEX_FOLDER, Offsets, index_path, open_offsets
from ramengpt.data.shards.format import Split, Tokens, open_shard
from ramengpt.data.shards.manifest import Manifest


class IndexedShard(NamedTuple):
    """A shard's tokens, uint16 [n], and where its documents start, int64 [documents]."""

    tokens: Tokens
    offsets: Offsets


class SplitShards(Sequence[IndexedShard]):
    """The shards of a split in the manifest's order, at most one of them mapped at a time.

    So neither resident memory nor the number of open files grows with the data. Check store and
    index first (`check_store`, `check_index`); use from one thread.

    Args:
        manifest: the dataset.
        split: "val" or "train".
        store_folder: where the shards lie.
        index_folder: where their offsets lie.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: Split,
        store_folder: Path,
        index_folder: Path = INDEX_FOLDER,
    ) -> None:
        self._shards = manifest.split(split)
        self._store_folder = store_folder
        self._index_folder = index_folder
        self._mapped: tuple[int, IndexedShard] | None = None

    def __len__(self) -> int:
        return len(self._shards)

    @overload
    def __getitem__(self, number: int) -> IndexedShard: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[IndexedShard]: ...
    def __getitem__(self, number: int | slice) -> IndexedShard | Sequence[IndexedShard]:
        if isinstance(number, slice):
            raise TypeError("SplitShards maps one shard at a time")
        if not 0 <= number < len(self._shards):
            raise IndexError(number)
        if self._mapped is None or self._mapped[0] != number:
            self._mapped = None
            shard = self._shards[number]
            tokens = open_shard(self._store_folder / shard.file)
            path = index_path(shard.file, self._index_folder)
            offsets = open_offsets(path, shard.documents, shard.tokens)
            self._mapped = number, IndexedShard(tokens, offsets)
        return self._mapped[1]

    def close(self) -> None:
        """Unmap the shard; it is mapped again when asked for."""
        self._mapped = None
