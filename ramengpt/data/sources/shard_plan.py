"""A stream of tokens cut to shards: the validation shard first, then training shards of one size.

A shard is exactly as long as it should be: a document that does not fit continues in the next one.
After each shard the position in the source is recorded, so that a killed build resumes with the
shard it was at, more shards are added at the end, and a damaged one is rebuilt by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ramengpt.data.shards.format import BOS_TOKEN, ShardWriter, Tokens, open_shard, shard_filename
from ramengpt.data.shards.provenance import TEXT_START, Position, Provenance
from ramengpt.data.text.token_stream import COUNTS, TokenStream
from ramengpt.errors import UserError
from ramengpt.progress import Progress

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


def write_missing(plan: ShardPlan, provenance: Provenance, open_stream: OpenStream) -> list[int]:
    """Keep the plan's intact shards and write the others, in order.

    Args:
        plan: how the text is cut.
        provenance: what is there; what is written is recorded.
        open_stream: opens the text at a position.

    Returns:
        Numbers of the plan's shards.

    Raises:
        UserError: the text ends before the last shard of the plan, or before the first train shard.
    """
    number, position, last = 0, TEXT_START, False
    stream: TokenStream | None = None
    with Progress(f"tokenise {plan.name}", missing_tokens(plan, provenance), "tokens") as progress:
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
        raise _too_short(plan, number, provenance)
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
    provenance.claim(plan.file(number))
    with ShardWriter(provenance.folder / plan.file(number)) as writer:
        while len(tokens):
            writer.write(tokens)
            progress.advance(len(tokens))
            tokens = stream.read(min(WRITE_TOKENS, plan.tokens(number) - writer.num_tokens))
        short = writer.num_tokens < plan.tokens(number)
    provenance.record(plan.file(number), end=stream.position, last=short, counts=stream.counts)
    return True


def missing_tokens(plan: ShardPlan, provenance: Provenance) -> int | None:
    """Tokens to write; None if only the text's end will tell."""
    if plan.train_shards is None:
        return None
    numbers = range(plan.train_shards + 1)
    return sum(
        plan.tokens(number) for number in numbers if not provenance.intact(plan.file(number))
    )


def _too_short(plan: ShardPlan, number: int, provenance: Provenance) -> UserError:
    if not number:
        return UserError(f"{plan.name}: the text holds no document; add text or change its place")
    if number == 1:
        return _split_error(plan, open_shard(provenance.folder / plan.file(0)), 0, False)
    return UserError(
        f"{plan.name}: the text makes {number - 1} train shards, train_shards is "
        f"{plan.train_shards}; set it to {number - 1} or less"
    )


def check_split(plan: ShardPlan, provenance: Provenance, numbers: list[int]) -> None:
    """Refuse a text of which validation takes more than half, or of which training gets no start.

    Args:
        plan: how the text was cut.
        provenance: its shards.
        numbers: of the shards.

    Raises:
        UserError: says what to change.
    """
    val, *train = (open_shard(provenance.folder / plan.file(number)) for number in numbers)
    train_tokens = sum(map(len, train))
    begins_later = any(np.any(shard == BOS_TOKEN) for shard in train)
    if train_tokens < len(val) or not begins_later:
        raise _split_error(plan, val, train_tokens, begins_later)
    if not any(np.any(shard[:-1] == BOS_TOKEN) for shard in train):
        raise UserError(
            f"{plan.name}: no train shard holds two tokens of a document; set "
            f"datasets.{plan.name}.shard_tokens to more than {plan.shard_tokens}"
        )


def _split_error(plan: ShardPlan, val: Tokens, train_tokens: int, begins_later: bool) -> UserError:
    """Say what is wrong with a split, and a value of val_tokens with which it is right."""
    starts, key = np.flatnonzero(val == BOS_TOKEN), f"datasets.{plan.name}"
    if starts.size == 1 and not begins_later:
        return UserError(
            f"{plan.name}: the text is one document, and training needs another than validation; "
            f"set {key}.document_separator to what stands between documents, or put each into a "
            "file or a line of its own"
        )
    tokens = len(val) + train_tokens
    most = max(2, tokens // 10)
    if not begins_later:
        most = min(most, int(starts[-1]))
    advice = (
        f"set {key}.val_tokens to {most} or add text" if 2 <= most <= tokens // 2 else "add text"
    )
    left = f"{train_tokens} of them" if train_tokens < len(val) else "the start of no document"
    return UserError(
        f"{plan.name}: the text has {tokens} tokens, and val_tokens {plan.val_tokens} leaves "
        f"{left} for training; {advice}"
    )
