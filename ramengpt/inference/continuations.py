"""How likely texts' continuations are under a model, which multiple-choice benchmarks ask for.

Every text is a document of its own, opened by BOS as in training. Several are packed into one
forward pass; attention does not cross them.

Shapes: T packed tokens, C tokens of all continuations, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ramengpt.config.schedule import WINDOW_BLOCK_TOKENS
from ramengpt.data.shards.format import BOS_TOKEN
from ramengpt.errors import UserError
from ramengpt.model.gpt import GPT

PACKED_TOKENS = 2048  # in one pass; their logits take 0.4 GB


class Continuation(NamedTuple):
    """Token ids of a text, without BOS, and of what may follow it."""

    context: Sequence[int]
    continuation: Sequence[int]


class Score(NamedTuple):
    """How likely a continuation is."""

    log_likelihood: float
    """Sum over its tokens, in nats."""
    is_greedy: bool
    """Whether each of its tokens is the most likely one."""


def score_continuations(model: GPT, asked: Sequence[Continuation]) -> list[Score]:
    """Score each continuation by itself; what exceeds the model's context loses its start.

    Args:
        model: as it is to be evaluated.
        asked: each with at least one token to predict.

    Raises:
        UserError: a continuation does not fit the model's context.
    """
    scores: list[Score] = []
    packed_tokens = max(PACKED_TOKENS, model.max_sequence_tokens)
    packed_tokens += -packed_tokens % WINDOW_BLOCK_TOKENS
    for pack in _packs(asked, model.max_sequence_tokens, packed_tokens):
        scores += _score(model, pack, packed_tokens)
    return scores


def _packs(
    asked: Iterable[Continuation], longest: int, most_tokens: int
) -> Iterator[list[Continuation]]:
    """Group documents that fit into one pass; each is cut from the left and opened by BOS."""
    pack: list[Continuation] = []
    tokens = 0
    for context, continuation in asked:
        kept = longest - len(continuation)  # inputs before the continuation, but for BOS
        if kept < 0:
            raise UserError(
                f"a continuation of {len(continuation)} tokens is longer than the model's context "
                f"of {longest} tokens; choose another task"
            )
        document = Continuation([BOS_TOKEN, *context[max(len(context) - kept, 0) :]], continuation)
        inputs = len(document.context) + len(continuation) - 1
        if tokens + inputs > most_tokens:
            yield pack
            pack, tokens = [], 0
        pack.append(document)
        tokens += inputs
    if pack:
        yield pack


@torch.inference_mode()
def _score(model: GPT, pack: Sequence[Continuation], packed_tokens: int) -> Iterator[Score]:
    """Scores of one pass, padded to a length that stays the same."""
    tokens: list[int] = []
    positions: list[int] = []
    rows: list[int] = []
    targets: list[int] = []
    for context, continuation in pack:
        inputs = [*context, *continuation[:-1]]
        rows += range(len(tokens) + len(context) - 1, len(tokens) + len(inputs))
        tokens += inputs
        positions += range(len(inputs))
        targets += continuation
    device = model.head.weight.device
    padding = [0] * (packed_tokens - len(tokens))  # documents of one token

    def on_device(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=device)

    logits_TV = model.logits(on_device([*tokens, *padding]), on_device([*positions, *padding]))
    logs_CV = torch.log_softmax(logits_TV[on_device(rows)].double(), dim=1)
    targets_C = on_device(targets).long()
    lengths = [len(continuation) for _, continuation in pack]
    likelihoods = logs_CV.gather(1, targets_C[:, None])[:, 0].split(lengths)
    greedy = (logs_CV.argmax(1) == targets_C).split(lengths)
    return (Score(float(x.sum()), bool(y.all())) for x, y in zip(likelihoods, greedy, strict=True))
