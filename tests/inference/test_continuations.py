"""Scores of continuations against one document at a time, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.shards.format import BOS_TOKEN
from ramengpt.errors import UserError
from ramengpt.inference import continuations
from ramengpt.inference.continuations import Continuation, score_continuations
from ramengpt.model.gpt import GPT
from tests.inference.tiny_weights import MAX_SEQUENCE_TOKENS, tiny_model

IDS = st.integers(0, 50_255)
ASKED = st.lists(
    st.tuples(st.lists(IDS, max_size=80), st.lists(IDS, min_size=1, max_size=20)),
    min_size=1,
    max_size=12,
)
MODEL = tiny_model()


def alone(model: GPT, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """One document, one forward pass; the probabilities are added up one by one."""
    kept = context[len(context) - min(len(context), MAX_SEQUENCE_TOKENS - len(continuation)) :]
    tokens = [BOS_TOKEN, *kept, *continuation]
    tokens_T = torch.tensor(tokens[:-1], dtype=torch.int32)
    with torch.no_grad():
        logits_TV = model.logits(tokens_T, torch.arange(len(tokens_T), dtype=torch.int32)).double()
    total, greedy = 0.0, True
    for place in range(len(continuation)):
        row_V = logits_TV[len(tokens_T) - len(continuation) + place]
        total += float(row_V[continuation[place]] - row_V.logsumexp(0))
        greedy = greedy and int(row_V.argmax()) == continuation[place]
    return total, greedy


@settings(max_examples=10, deadline=None)
@given(ASKED)
def test_packed_scores_are_those_of_each_document_alone(asked) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(continuations, "PACKED_TOKENS", 128)  # several passes
        found = score_continuations(MODEL, [Continuation(*each) for each in asked])
    for score, each in zip(found, asked, strict=True):
        likelihood, greedy = alone(MODEL, *each)
        assert score.log_likelihood == pytest.approx(likelihood, abs=1e-3)
        assert score.is_greedy == greedy


def test_the_most_likely_continuation_is_greedy() -> None:
    tokens: list[int] = []
    for _ in range(3):
        inputs_T = torch.tensor([BOS_TOKEN, 318, *tokens], dtype=torch.int32)
        positions_T = torch.arange(len(inputs_T), dtype=torch.int32)
        tokens.append(int(MODEL.logits(inputs_T, positions_T)[-1].argmax()))
    other = [*tokens[:2], (tokens[2] + 1) % 50_257]
    scores = score_continuations(MODEL, [Continuation([318], tokens), Continuation([318], other)])
    assert [score.is_greedy for score in scores] == [True, False]


def test_a_continuation_longer_than_the_context_is_one_line() -> None:
    with pytest.raises(UserError, match="a continuation of 65 tokens is longer"):
        score_continuations(MODEL, [Continuation([1], [2] * 65)])
