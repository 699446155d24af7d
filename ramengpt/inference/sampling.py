"""Sample text from a trained model, token by token.

Shapes: V vocabulary.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ramengpt.config.sample import SampleConfig
from ramengpt.data.shards.format import BOS_TOKEN
from ramengpt.data.text.tokenizer import encode_document, gpt2_encoding
from ramengpt.errors import UserError


class TokenDecoder(Protocol):
    """Computes the logits of the next token; see :class:`ramengpt.inference.decoding.Decoder`."""

    @property
    def full(self) -> bool:
        """Whether the context is full."""
        ...

    def start(self, tokens: Sequence[int]) -> Tensor:
        """Begin a document; logits [V] of the token after it."""
        ...

    def step(self, token: int) -> Tensor:
        """Append a token; logits [V] of the one after it."""
        ...


def choose_token(
    logits_V: Tensor, temperature: float, top_k: int, generator: torch.Generator
) -> int:
    """Sample a token.

    Args:
        logits_V: of every token.
        temperature: divides the logits; 0 is greedy.
        top_k: sample among the k most likely tokens only; 0: among all.
        generator: on the CPU, so that a seed means the same on every device.
    """
    if temperature == 0:
        return int(logits_V.argmax())
    scaled_V = logits_V.double().cpu() / temperature
    if 0 < top_k < scaled_V.numel():
        kept, tokens = scaled_V.topk(top_k)
        return int(tokens[torch.multinomial(kept.softmax(0), 1, generator=generator)])
    return int(torch.multinomial(scaled_V.softmax(0), 1, generator=generator))


def sample_tokens(
    decoder: TokenDecoder, prompt: Sequence[int], config: SampleConfig, seed: int
) -> Iterator[int]:
    """Continue a document until it ends, the context is full, or `new_tokens` are sampled.

    Args:
        decoder: of the model.
        prompt: token ids, starting with BOS.
        config: how many tokens to sample, and how.
        seed: of the sampling.

    Yields:
        Token ids, without the one that ends the document.
    """
    generator = torch.Generator().manual_seed(seed)
    logits_V = decoder.start(prompt)
    for drawn in range(1, config.new_tokens + 1):
        token = choose_token(logits_V, config.temperature, config.top_k, generator)
        if token == BOS_TOKEN:
            return
        yield token
        if drawn == config.new_tokens or decoder.full:
            return
        logits_V = decoder.step(token)


def sample_text(
    decoder: TokenDecoder, prompt: str, config: SampleConfig, seed: int, context_tokens: int
) -> Iterator[str]:
    """Continue a text.

    Args:
        decoder: of the model.
        prompt: the text to continue.
        config: how many tokens to sample, and how.
        seed: of the sampling.
        context_tokens: context length of the model.

    Yields:
        Pieces of the continuation as soon as they are whole characters.

    Raises:
        UserError: the prompt fills the context.
    """
    tokens = encode_document(prompt).tolist()
    if len(tokens) >= context_tokens:
        raise UserError(
            f"prompt: expected fewer than {context_tokens} tokens, the model's context, found "
            f"{len(tokens)}; shorten it"
        )
    yield from stream_text(sample_tokens(decoder, tokens, config, seed))


def stream_text(tokens: Iterable[int]) -> Iterator[str]:
    """Decode tokens to text, holding back the bytes of a character until it is complete."""
    encoding = gpt2_encoding()
    utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        if piece := utf8.decode(encoding.decode_single_token_bytes(token)):
            yield piece
    if rest := utf8.decode(b"", final=True):
        yield rest


def samples_page(samples: Iterable[tuple[str, str]], config: SampleConfig) -> str:
    """Write prompts and their continuations as Markdown.

    Args:
        samples: pairs of prompt and continuation.
        config: the settings, shown on the page.
    """
    likeliest = f"the {config.top_k} most likely" if config.top_k else "all tokens"
    lines = [
        "# Samples",
        "",
        f"At most {config.new_tokens} tokens each, temperature {config.temperature:g}, sampled "
        f"from {likeliest}, seed {config.seed}. The prompt is in bold.",
    ]
    for prompt, text in samples:
        quoted = f"**{prompt}**{text}".replace("\n", "\n> ")
        lines += ["", "---", "", f"> {quoted}"]
    return "\n".join(lines) + "\n"
