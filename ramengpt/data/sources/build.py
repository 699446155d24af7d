"""Shards made here from raw text: the validation shard first, then training shards of one size.

A shard is exactly as long as it should be: a document that does not fit goes on in the next one.
After each shard the position in the source is recorded, so that a killed build goes on with the
shard it was at, more shards are added at the end, and a damaged one is made again by itself.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramengpt.config.dataset import DownloadConfig, HubTextConfig, TextConfig
from ramengpt.data.shards.format import (
    HEADER_BYTES,
    TOKEN_BYTES,
    ShardWriter,
    Split,
    shard_filename,
)
from ramengpt.data.shards.manifest import ReceiptShard
from ramengpt.data.shards.provenance import START, Position, Provenance
from ramengpt.data.sources.hub_client import HubRepository
from ramengpt.data.sources.hub_shards import check_redo, wanted_shards
from ramengpt.data.sources.hub_text import open_hub_text
from ramengpt.data.sources.text_files import TextSource, find_sources
from ramengpt.data.text.ray_engine import merged_batches, remove_pieces, write_with_ray
from ramengpt.data.text.readers import Source
from ramengpt.data.text.token_stream import COUNTS, TokenStream, token_batches
from ramengpt.errors import UserError
from ramengpt.progress import Progress, say, scaled

RULES = 1  # of cutting and tokenising; a new number makes all shards again
WRITE_TOKENS = 2**20

OpenStream = Callable[[Position], TokenStream]


@dataclass(frozen=True)
class ShardPlan:
    """How a text is cut.

    Attributes:
        name: first part of the files' names.
        val_tokens: length of the validation shard.
        shard_tokens: length of a training shard; the last one of a text may be shorter.
        train_shards: number of training shards; None for all that the text makes.
    """

    name: str
    val_tokens: int
    shard_tokens: int
    train_shards: int | None

    def file(self, number: int) -> str:
        """Name of shard 0 (validation), 1, 2..."""
        return shard_filename(self.name, "train" if number else "val", number)

    def tokens(self, number: int) -> int:
        """Length of a shard, where the text does not end before."""
        return self.shard_tokens if number else self.val_tokens

    def wants(self, number: int) -> bool:
        """Whether the plan has a shard of that number."""
        return self.train_shards is None or number <= self.train_shards


def build_from_text(
    config: TextConfig | HubTextConfig,
    settings: DownloadConfig,
    folder: Path,
    processes: int,
    redo: Sequence[str] | None,
) -> tuple[ReceiptShard, ...]:
    """Make what is missing of a dataset's shards.

    Args:
        config: where the text is and how it is cut.
        settings: how the Hub is asked, and where tokens are made.
        folder: the dataset's store; exists.
        processes: how many tokenise.
        redo: shards to make again; empty for all of them, None for none.

    Returns:
        The shards, validation first.

    Raises:
        UserError: the text cannot be had, is too short, or the disk is full.
    """
    if isinstance(config, TextConfig):
        plan = ShardPlan(config.name, config.val_tokens, config.shard_tokens, None)
        root = Path(os.environ.get("DVC_ROOT") or Path.cwd())
        sources = find_sources(config.paths, config.text_field, root)
        provenance = Provenance(folder, _text_source(config, sources))
        open_sources: Callable[[], Sequence[Source]] = lambda: sources  # noqa: E731
    else:
        plan = ShardPlan(config.name, config.val_tokens, config.shard_tokens, config.train_shards)
        source = {key: value for key, value in config if key != "train_shards"}
        provenance = Provenance(folder, {**source, "rules": RULES})
        open_sources = lambda: _hub_sources(config, settings, provenance)  # noqa: E731

    if redo is not None:
        wanted = list(wanted_shards(plan.name, plan.train_shards or len(provenance.origins) or 1))
        provenance.forget(check_redo(redo, wanted))

    def open_stream(position: Position) -> TokenStream:
        if settings.engine == "local":
            batches = token_batches(list(open_sources()), position, processes)
        else:
            engine = write_with_ray(processes)
            batches = merged_batches(open_sources(), position, folder, engine)
        return TokenStream(batches, position)

    if plan.train_shards is not None:
        _check_space(plan, provenance)
    numbers = write_missing(plan, provenance, open_stream)
    remove_pieces(folder)
    return _describe(plan, provenance, numbers)


def _text_source(config: TextConfig, sources: Sequence[TextSource]) -> dict[str, Any]:
    """What determines the shards: how the text is cut, and the files by size and date."""
    files = []
    for source in sources:
        status = source.path.stat()
        files.append([str(source.path), status.st_size, status.st_mtime_ns])
    cut = {key: value for key, value in config if key != "paths"}
    return {**cut, "files": files, "rules": RULES}


def _hub_sources(
    config: HubTextConfig, settings: DownloadConfig, provenance: Provenance
) -> Sequence[Source]:
    """Open the repository at the commit of the shards that are there, else at today's."""
    if not provenance.pinned and not Path(config.repository).is_dir():
        repository = HubRepository(config.repository, config.revision, settings)
        repository.files()
        provenance.pinned = repository.commit
    return open_hub_text(config, provenance.pinned)


def write_missing(plan: ShardPlan, provenance: Provenance, open_stream: OpenStream) -> list[int]:
    """Go through the plan's shards in order, keep the intact ones, write the others.

    Args:
        plan: how the text is cut.
        provenance: what is there; what is written is recorded.
        open_stream: opens the text at a position.

    Returns:
        Numbers of the plan's shards.

    Raises:
        UserError: the text ends before the last shard of the plan, or before the first train shard.
    """
    number, position, last = 0, START, False
    stream: TokenStream | None = None
    with Progress(f"tokenise {plan.name}", _missing_tokens(plan, provenance), "tokens") as progress:
        try:
            while not last and plan.wants(number):
                file = plan.file(number)
                if provenance.intact(file):
                    _close(stream)
                    stream = None
                else:
                    stream = stream or open_stream(position)
                    if not _write_shard(plan, number, provenance, stream, progress):
                        break
                position, last = provenance.origins[file].end, provenance.origins[file].last
                number += 1
        finally:
            _close(stream)
    if number < 2 or (plan.train_shards is not None and number <= plan.train_shards):
        raise _too_short(plan, number)
    return list(range(number))


def _close(stream: TokenStream | None) -> None:
    if stream is not None:
        stream.close()


def _write_shard(
    plan: ShardPlan,
    number: int,
    provenance: Provenance,
    stream: TokenStream,
    progress: Progress,
) -> bool:
    """Write one shard and record it.

    Returns:
        False if the text had ended; the shard before is then recorded as the last.
    """
    stream.counts = dict.fromkeys(COUNTS, 0)
    tokens = stream.read(min(WRITE_TOKENS, plan.tokens(number)))
    if not len(tokens):
        provenance.end_with(plan.file(number - 1) if number else "")
        return False
    with ShardWriter(provenance.folder / plan.file(number)) as writer:
        while len(tokens):
            writer.write(tokens)
            progress.advance(len(tokens))
            tokens = stream.read(min(WRITE_TOKENS, plan.tokens(number) - writer.num_tokens))
        short = writer.num_tokens < plan.tokens(number)
    provenance.record(plan.file(number), end=stream.position, last=short, counts=stream.counts)
    return True


def _missing_tokens(plan: ShardPlan, provenance: Provenance) -> int | None:
    """Tokens to write; None if only the text's end will tell."""
    if plan.train_shards is None:
        return None
    numbers = range(plan.train_shards + 1)
    return sum(
        plan.tokens(number) for number in numbers if not provenance.intact(plan.file(number))
    )


def _check_space(plan: ShardPlan, provenance: Provenance) -> None:
    needed = TOKEN_BYTES * (_missing_tokens(plan, provenance) or 0)
    free = shutil.disk_usage(provenance.folder).free
    if needed > free:
        raise UserError(
            f"{provenance.folder}: {scaled(needed + HEADER_BYTES, 'B')} are needed for the shards, "
            f"{scaled(free, 'B')} are free; make room, lower train_shards, or let DATA_PATH name "
            "another disk"
        )


def _too_short(plan: ShardPlan, number: int) -> UserError:
    if number < 2:
        return UserError(
            f"{plan.name}: the text ends within the first {plan.val_tokens} tokens, which are for "
            "validation, so none are left for training; lower val_tokens or add text"
        )
    return UserError(
        f"{plan.name}: the text makes {number - 1} train shards, train_shards is "
        f"{plan.train_shards}; set it to {number - 1} or less"
    )


def _describe(
    plan: ShardPlan, provenance: Provenance, numbers: list[int]
) -> tuple[ReceiptShard, ...]:
    counts = dict.fromkeys(COUNTS, 0)
    shards = []
    for number in numbers:
        file = plan.file(number)
        split: Split = "train" if number else "val"
        shards.append(provenance.shard(file, split))
        for name, count in provenance.origins[file].counts.items():
            counts[name] += count
    say(
        f"{plan.name}: {len(shards)} shards in {provenance.folder}; "
        + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
    )
    return tuple(shards)
