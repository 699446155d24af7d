"""How well a model predicts a text: loss in nats/token, and bits per byte.

The loss depends on the tokenizer; bits per byte do not. A token counts as the bytes of text that it
stands for. The token that opens a document stands for none: predicting it is part of the loss but
not of the bits per byte.

Shapes: T packed tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ramengpt.data.batches.batcher import BatchRequest
from ramengpt.data.batches.indexed_split import IndexedShard
from ramengpt.data.batches.loader import ValidationBatch, validation_batches
from ramengpt.data.batches.validation_stream import ValidationStream
from ramengpt.data.shards.format import (
    HEADER_BYTES,
    TOKEN_BYTES,
    VOCABULARY_SIZE,
    Fault,
    ShardError,
    Tokens,
    open_shard,
)
from ramengpt.data.text.tokenizer import encode_document, token_byte_lengths
from ramengpt.errors import UserError, shown_path
from ramengpt.files import open_regular
from ramengpt.inference.held_out_loss import EvaluatedModel, bits_per_byte, validation_loss
from ramengpt.inference.weights import Weights
from ramengpt.progress import Progress

CHUNK_TOKENS = 2**20


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicted a text.

    Attributes:
        tokens: number of tokens predicted.
        loss: mean, in nats/token.
        bytes: of text that the tokens stand for.
        bits_per_byte: infinite if there is no text.
    """

    tokens: int
    loss: float
    bytes: int
    bits_per_byte: float


def evaluate(
    model: EvaluatedModel,
    stream: ValidationStream,
    request: BatchRequest,
    device: torch.device,
    label: str,
) -> Evaluation:
    """Predict a text, each token once, as validation does during training.

    Args:
        model: as it is to be evaluated.
        stream: the text.
        request: tokens of a micro-batch, and longest piece of a document.
        device: of the model.
        label: of the text, shown with the progress.
    """
    with Progress(label, stream.num_tokens, "tokens") as progress:
        found = validation_loss(model, _counted(stream, request, device, progress))
    text_bytes = stream.text_bytes(token_byte_lengths())
    bits = bits_per_byte(found.text_nats, text_bytes)
    return Evaluation(stream.num_tokens, found.loss, text_bytes, bits)


def _counted(
    stream: ValidationStream, request: BatchRequest, device: torch.device, progress: Progress
) -> Iterator[ValidationBatch]:
    for batch in validation_batches(stream, request, device):
        yield batch
        progress.advance(batch.valid_tokens)


def evaluate_shards(
    weights: Weights, shards: Sequence[IndexedShard], tokens: int, label: str
) -> Evaluation:
    """Predict the first tokens of some shards."""
    device = next(weights.model.parameters()).device
    request = BatchRequest(weights.config.micro_batch_tokens, weights.config.max_sequence_tokens)
    return evaluate(weights.model, ValidationStream(shards, tokens), request, device, label)


def read_tokens(path: Path) -> IndexedShard:
    """A shard (.bin), or the bytes of any UTF-8 text file as one document.

    Raises:
        UserError: there is no such file, it is no text, or it holds nothing to predict.
        ShardError: it ends in .bin and is no shard of GPT-2 tokens.
    """
    tokens = _read_shard(path) if path.suffix.lower() == ".bin" else _read_text(path)
    if tokens.size < 2:
        raise UserError(f"{shown_path(path)}: expected at least one token of text, found none")
    return IndexedShard(tokens, np.zeros(1, dtype=np.int64))


def _read_shard(path: Path) -> Tokens:
    tokens = open_shard(path)
    for start in range(0, tokens.size, CHUNK_TOKENS):
        chunk = tokens[start : start + CHUNK_TOKENS]
        if chunk.max() >= VOCABULARY_SIZE:
            place = int(np.argmax(chunk >= VOCABULARY_SIZE))
            where = f"token at byte {HEADER_BYTES + TOKEN_BYTES * (start + place)}"
            advice = "evaluate a shard of GPT-2 tokens"
            fault = Fault(
                str(path), where, f"below {VOCABULARY_SIZE}", str(int(chunk[place])), advice
            )
            raise ShardError(fault)
    return tokens


def _read_text(path: Path) -> Tokens:
    try:
        with open_regular(path) as file:
            text = file.read().decode("utf-8")  # as bytes: line ends stay what they are
    except OSError as error:
        raise UserError(f"{shown_path(path)}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{shown_path(path)}: byte {error.start} is not UTF-8; expected a text file, or a "
            "shard whose name ends in .bin"
        ) from None
    return encode_document(text)
