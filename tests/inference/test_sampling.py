import pytest
import torch

from ramengpt.config.sample import SampleConfig
from ramengpt.data.shards.format import BOS_TOKEN
from ramengpt.data.text.tokenizer import encode_document, encode_text
from ramengpt.errors import UserError
from ramengpt.inference.decoding import Decoder
from ramengpt.inference.sampling import (
    choose_token,
    sample_text,
    sample_tokens,
    samples_page,
    stream_text,
)
from tests.inference.tiny_weights import MAX_SEQUENCE_TOKENS, tiny_model


def sample(**changes: object) -> SampleConfig:
    values = {"prompts": ["One"], "new_tokens": 8, "temperature": 1.0, "top_k": 0, "seed": 1}
    return SampleConfig(**{**values, **changes})


class Script:
    """A decoder that wants the tokens of a list, in order."""

    def __init__(self, tokens: list[int], room: int = 1000) -> None:
        self.tokens, self.room, self.read = tokens, room, []

    @property
    def full(self) -> bool:
        return len(self.read) >= self.room

    def start(self, tokens):
        self.read = list(tokens)
        return self._wish(0)

    def step(self, token):
        self.read.append(token)
        return self._wish(self.tokens.index(token) + 1)

    def _wish(self, number):
        logits_V = torch.zeros(50257)
        logits_V[self.tokens[number]] = 100.0
        return logits_V


def test_draws_follow_the_softmax():
    logits_V = torch.tensor([0.0, 1.0, 2.0, -1.0])
    generator = torch.Generator().manual_seed(0)
    draws = [choose_token(logits_V, 0.5, 0, generator) for _ in range(4000)]
    shares = torch.bincount(torch.tensor(draws), minlength=4) / 4000
    assert torch.allclose(shares, (logits_V / 0.5).softmax(0), atol=0.03)


def test_top_k_keeps_the_likeliest_in_proportion():
    logits_V = torch.tensor([0.0, 3.0, 2.0, -1.0])
    generator = torch.Generator().manual_seed(0)
    draws = [choose_token(logits_V, 1.0, 2, generator) for _ in range(2000)]
    shares = torch.bincount(torch.tensor(draws), minlength=4) / 2000
    expected = torch.tensor([3.0, 2.0]).softmax(0)
    assert shares[0] == shares[3] == 0
    assert torch.allclose(shares[1:3], expected, atol=0.04)


@pytest.mark.parametrize(
    "draw", [{"temperature": 0.0, "top_k": 0}, {"temperature": 1.0, "top_k": 1}]
)
def test_no_temperature_or_one_candidate_takes_the_likeliest(draw):
    logits_V = torch.tensor([0.0, 3.0, 2.9])
    generator = torch.Generator().manual_seed(0)
    assert {choose_token(logits_V, generator=generator, **draw) for _ in range(50)} == {1}


def test_a_sample_ends_where_the_model_ends_its_document():
    decoder = Script([11, 12, 13, BOS_TOKEN])
    assert list(sample_tokens(decoder, [BOS_TOKEN, 5], sample(), 1)) == [11, 12, 13]


def test_a_sample_ends_when_enough_is_drawn_without_asking_for_more():
    decoder = Script([11, 12, 13, 14, 15])
    assert list(sample_tokens(decoder, [BOS_TOKEN], sample(new_tokens=3), 1)) == [11, 12, 13]
    assert decoder.read == [BOS_TOKEN, 11, 12]


def test_a_sample_ends_when_the_model_can_take_no_more():
    decoder = Script([11, 12, 13, 14, 15], room=3)
    assert list(sample_tokens(decoder, [BOS_TOKEN], sample(), 1)) == [11, 12, 13]


def test_one_seed_one_text_and_the_cache_agrees_with_the_packed_forward():
    model = tiny_model()
    config = sample(new_tokens=20, temperature=0.0)
    prompt = encode_document("def main").tolist()
    drawn = list(sample_tokens(Decoder(model), prompt, config, 1))
    document_T = torch.tensor(prompt + drawn, dtype=torch.int32)
    with torch.no_grad():
        logits_TV = model.logits(document_T, torch.arange(len(document_T), dtype=torch.int32))
    assert drawn == logits_TV.argmax(1)[len(prompt) - 1 : -1].tolist()
    warm = sample(new_tokens=20)
    first, again, other = (
        list(sample_tokens(Decoder(model), prompt, warm, seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_prompt_that_fills_the_context_is_refused():
    decoder = Script([1])
    with pytest.raises(UserError, match="fewer than 64 tokens"):
        list(sample_text(decoder, "word " * 64, sample(), 1, MAX_SEQUENCE_TOKENS))


def test_streamed_text_never_splits_a_character():
    text = "naïve 🍜 ラーメン"
    pieces = list(stream_text(encode_text(text).tolist()))
    assert "".join(pieces) == text
    assert all("�" not in piece for piece in pieces) and len(pieces) > 5


def test_half_a_character_at_the_end_is_marked():
    tokens = encode_text("🍜").tolist()
    assert len(tokens) > 1
    assert "".join(stream_text(tokens[:-1])) == "�"


def test_the_page_names_how_it_was_drawn():
    page = samples_page([("One", " two\nthree")], sample(top_k=5))
    assert "from the 5 most likely" in page
    assert "> **One** two\n> three\n" in page
