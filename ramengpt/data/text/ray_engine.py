"""Tokenising on more than one machine: a task for each source file, and a merge in order.

A task turns one source into a piece: a folder with its tokens and, for each record, their number
and how it counts. Pieces do not depend on each other, so any engine can make them anywhere in any
order; the merge reads them by number, so the shards are those that one machine makes. A piece gets
its name once it is whole, and is kept after a kill. Until the shards are finished the
pieces take as much disk as their tokens; all machines must see the store's folder.

The engine is Ray: a task is a plain function, sources and results are plain values, and the same
call runs on two local workers or on a cluster (RAY_ADDRESS). datatrove's executors fit less well:
they drive pipelines of datatrove's own readers and writers, and report through files and logs.
"""

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ramengpt.data.shards.provenance import Position
from ramengpt.data.text.readers import Source
from ramengpt.data.text.token_stream import TokenBatch, encode_batch
from ramengpt.errors import UserError

PIECES_FOLDER = ".pieces"
READ_RECORDS = 4096
PIECES_AHEAD = 2  # for each worker

WritePieces = Callable[[Sequence[tuple[Source, Path]]], Iterator[Path]]
"""Makes pieces anywhere and yields their folders in the given order."""


def piece_folder(store: Path, source: Source, number: int) -> Path:
    """Where the piece of a source lies: by its number and everything that describes it."""
    key = hashlib.sha256(repr(source).encode()).hexdigest()[:16]
    return store / PIECES_FOLDER / f"{number:06d}-{key}"


def write_piece(source: Source, folder: Path) -> Path:
    """The task: tokenise a whole source in this process, in bounded memory.

    Args:
        source: what to read.
        folder: the piece; left alone if it is there.

    Returns:
        The folder.

    Raises:
        UserError: the source cannot be read.
    """
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    lengths = [np.zeros(0, dtype=np.int64)]
    flags = [np.zeros(0, dtype=np.uint8)]
    with (temporary / "tokens.bin").open("wb") as file:
        for batch in source.batches(0):
            encoded = encode_batch(0, batch)
            file.write(encoded.tokens.astype("<u2", copy=False).data)
            lengths.append(encoded.lengths)
            flags.append(encoded.flags)
    np.save(temporary / "lengths.npy", np.concatenate(lengths))
    np.save(temporary / "flags.npy", np.concatenate(flags))
    temporary.replace(folder)
    return folder


def read_piece(folder: Path, number: int, first_record: int) -> Iterator[TokenBatch]:
    """Read a piece from a record on, as the batches that tokenising its source gives.

    Args:
        folder: the piece.
        number: of its source.
        first_record: where to begin.
    """
    lengths = np.load(folder / "lengths.npy")
    flags = np.load(folder / "flags.npy")
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    tokens = np.zeros(0, dtype=np.uint16)
    if starts[-1]:
        tokens = np.memmap(folder / "tokens.bin", "<u2", mode="r", shape=(int(starts[-1]),))
    for first in range(first_record, len(lengths), READ_RECORDS):
        end = min(len(lengths), first + READ_RECORDS)
        part = tokens[starts[first] : starts[end]]
        yield TokenBatch(number, first, part, lengths[first:end], flags[first:end])


def merged_batches(
    sources: Sequence[Source], start: Position, store: Path, write_pieces: WritePieces
) -> Iterator[TokenBatch]:
    """All sources' tokens from a position on, in order, from pieces.

    Args:
        sources: in the order of the result.
        start: source and record to begin with.
        store: the dataset's store.
        write_pieces: the engine.
    """
    tasks = [
        (source, piece_folder(store, source, number))
        for number, source in enumerate(sources)
        if number >= start[0]
    ]
    for number, folder in enumerate(write_pieces(tasks), start[0]):
        yield from read_piece(folder, number, start[1] if number == start[0] else 0)


def write_with_ray(processes: int) -> WritePieces:
    """Make pieces with Ray: on the cluster that RAY_ADDRESS names, else on local workers.

    Args:
        processes: local workers; a cluster has its own number.

    Raises:
        UserError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            "download.engine: ray is not installed; `pip install ray` or set engine: local"
        ) from None

    def write(tasks: Sequence[tuple[Source, Path]]) -> Iterator[Path]:
        if not ray.is_initialized():
            local_workers = None if "RAY_ADDRESS" in os.environ else processes
            ray.init(log_to_driver=False, include_dashboard=False, num_cpus=local_workers)
        workers = int(ray.cluster_resources().get("CPU", 1))
        task = ray.remote(num_cpus=1, max_retries=2)(write_piece)
        waiting: deque[Any] = deque()
        try:
            for source, folder in tasks:
                waiting.append(task.remote(source, folder))
                if len(waiting) > PIECES_AHEAD * workers:
                    yield _result(ray, waiting.popleft())
            while waiting:
                yield _result(ray, waiting.popleft())
        finally:
            for reference in waiting:
                ray.cancel(reference)
            ray.shutdown()

    return write


def _result(ray: Any, reference: Any) -> Path:
    try:
        return Path(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise


def remove_pieces(store: Path) -> None:
    """Drop the pieces of a finished dataset."""
    shutil.rmtree(store / PIECES_FOLDER, ignore_errors=True)
