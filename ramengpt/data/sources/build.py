"""Shards built here from raw text: which text, how it is read, and a report of it."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramengpt.config.dataset import DownloadConfig, HubTextConfig, TextConfig
from ramengpt.data.shards.format import HEADER_BYTES, TOKEN_BYTES
from ramengpt.data.shards.manifest import DownloadedShard
from ramengpt.data.shards.provenance import Position, Provenance, code_digest
from ramengpt.data.sources import shard_plan
from ramengpt.data.sources.hub_client import HubRepository
from ramengpt.data.sources.hub_shards import check_redo, wanted_shards
from ramengpt.data.sources.hub_text import open_hub_text
from ramengpt.data.sources.shard_plan import ShardPlan, check_split, missing_tokens, write_missing
from ramengpt.data.sources.text_files import FoundText, find_text
from ramengpt.data.text import token_stream
from ramengpt.data.text.ray_engine import merged_batches, remove_pieces, write_with_ray
from ramengpt.data.text.readers import Source
from ramengpt.data.text.token_stream import COUNTS, TokenStream, token_batches
from ramengpt.errors import UserError
from ramengpt.progress import say, scaled

NAMES_SHOWN = 5

_TEXT = Path(token_stream.__file__).parent
CODE = (  # decides which tokens a text becomes
    Path(shard_plan.__file__),
    *(_TEXT / f"{name}.py" for name in ("cuts", "input_file", "json_line", "parquet")),
    *(_TEXT / f"{name}.py" for name in ("readers", "token_stream", "tokenizer")),
)


def build_from_text(
    config: TextConfig | HubTextConfig,
    settings: DownloadConfig,
    folder: Path,
    processes: int,
    redo: Sequence[str] | None,
) -> tuple[tuple[DownloadedShard, ...], dict[str, Any]]:
    """Build the missing shards of a dataset.

    Args:
        config: where the text is and how it is cut.
        settings: how the Hub is asked, and where tokens are made.
        folder: the dataset's store; exists.
        processes: how many tokenise.
        redo: shards to rebuild; empty for all of them, None for none.

    Returns:
        The shards, validation first; and for the record what was read, left out, and counted.

    Raises:
        UserError: the text cannot be read, is too short or changed, or the disk is full.
    """
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    found, train_shards = FoundText((), ()), None
    if isinstance(config, TextConfig):
        found = find_text(config, root)
    else:
        train_shards = config.train_shards
    plan = ShardPlan(config.name, config.val_tokens, config.shard_tokens, train_shards)
    provenance = Provenance(folder, _identity(config, found, root))
    if redo is not None:
        wanted = list(wanted_shards(plan.name, train_shards or len(provenance.origins) or 1))
        provenance.forget(check_redo(redo, wanted))
    invalid: set[str] = set()

    def open_stream(position: Position) -> TokenStream:
        sources: Sequence[Source] = found.sources
        if isinstance(config, HubTextConfig):
            sources = _hub_sources(config, settings, provenance)
        if settings.engine == "local":
            batches = token_batches(list(sources), position, processes)
        else:
            batches = merged_batches(sources, position, folder, write_with_ray(processes))
        return TokenStream(batches, position, lambda number: invalid.add(sources[number].name))

    if train_shards is not None:
        _check_space(plan, provenance)
    numbers = write_missing(plan, provenance, open_stream)
    remove_pieces(folder)
    if isinstance(config, TextConfig):
        _check_same_text(config, found, root)
        check_split(plan, provenance, numbers)
        read = [_shown(source.file.path, root) for source in found.sources]
    else:
        read = [f"{config.repository} ({config.subset}) {provenance.pinned}".strip()]
    left_out = [
        {"path": _shown(entry.path, root), "reason": entry.reason.replace(f"{root}/", "")}
        for entry in found.left_out
    ]
    report = {"read": read, "left_out": left_out, "counts": _counts(plan, provenance, numbers)}
    _announce(plan.name, report, sorted(invalid))
    return tuple(provenance.shard(plan.file(number)) for number in numbers), report


def _shown(path: Path, root: Path) -> str:
    """A file's name for people and for the record: relative to the project if it lies there."""
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    return name.encode("utf-8", "replace").decode()


def _identity(config: TextConfig | HubTextConfig, found: FoundText, root: Path) -> dict[str, Any]:
    """What determines the shards: how the text is cut, files by size and date, this code."""
    cut = {key: value for key, value in config if key not in ("paths", "train_shards")}
    files = [
        [_shown(source.file.path, root), source.file.bytes, source.file.modified_ns]
        for source in found.sources
    ]
    return cut | ({"files": files} if files else {}) | {"code": code_digest(CODE)}


def _check_same_text(config: TextConfig, found: FoundText, root: Path) -> None:
    """Refuse a text of which a file changed, or to which one was added, while it was read."""
    known = {source.file.path for source in found.sources}
    for source in found.sources:
        source.file.check_unchanged()
    for source in find_text(config, root).sources:
        if source.file.path not in known:
            name = _shown(source.file.path, root)
            raise UserError(f"{name}: appeared while the text was read; run again")


def _hub_sources(
    config: HubTextConfig, settings: DownloadConfig, provenance: Provenance
) -> Sequence[Source]:
    """Open the repository at the commit of the existing shards, else at today's."""
    if not provenance.pinned and not Path(config.repository).is_dir():
        repository = HubRepository(config.repository, config.revision, settings)
        repository.files()
        provenance.pinned = repository.commit
    return open_hub_text(config, provenance.pinned)


def _check_space(plan: ShardPlan, provenance: Provenance) -> None:
    needed = TOKEN_BYTES * (missing_tokens(plan, provenance) or 0)
    free = shutil.disk_usage(provenance.folder).free
    if needed > free:
        raise UserError(
            f"{provenance.folder}: {scaled(needed + HEADER_BYTES, 'B')} are needed for the shards, "
            f"{scaled(free, 'B')} are free; make room, lower train_shards, or let DATA_PATH name "
            "another disk"
        )


def _counts(plan: ShardPlan, provenance: Provenance, numbers: list[int]) -> dict[str, int]:
    """Sum the counts of all shards."""
    origins = [provenance.origins[plan.file(number)] for number in numbers]
    return {name: sum(origin.counts.get(name, 0) for origin in origins) for name in COUNTS}


def _announce(name: str, report: dict[str, Any], invalid: list[str]) -> None:
    """Report what was read, left out and invalid."""
    read, left_out, counts = report["read"], report["left_out"], report["counts"]
    summary = ", ".join(f"{key.replace('_', ' ')} {count}" for key, count in counts.items())
    say(f"{name}: read {len(read)} source{'s' * (len(read) != 1)}; {summary}")
    if left_out:
        shown = [f"{entry['path']} ({entry['reason']})" for entry in left_out[:NAMES_SHOWN]]
        say(f"{name}: left out {len(left_out)}: {', '.join(shown)}{_more(left_out)}")
    if invalid:
        shown = [_shown(Path(path), Path.cwd()) for path in invalid[:NAMES_SHOWN]]
        say(
            f"{name}: not valid UTF-8, what is invalid became U+FFFD: {', '.join(shown)}"
            f"{_more(invalid)}; if they are in another encoding, save them as UTF-8"
        )


def _more(names: Sequence[object]) -> str:
    further = len(names) - NAMES_SHOWN
    return f" and {further} more (data/download.json lists what is left out)" if further > 0 else ""
