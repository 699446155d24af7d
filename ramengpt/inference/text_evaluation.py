"""How well a model predicts a text: nats a token, and bits a byte.

Loss a token depends on the tokenizer; bits a byte do not: the same text costs the same whatever it
is cut into. A token counts for the bytes of text that it stands for. The token that opens a
document stands for none, so predicting it is part of the loss and not of the bits.

Shapes: T packed tokens, V vocabulary.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ramengpt.data.batches.indexed_split import IndexedShard
from ramengpt.data.batches.loader import ValidationBatch
from ramengpt.data.shards.format import BOS_TOKEN, VOCABULARY_SIZE, open_shard
from ramengpt.data.text.tokenizer import encode_document, gpt2_encoding
from ramengpt.errors import UserError
from ramengpt.inference.held_out_loss import EvaluatedModel
from ramengpt.progress import Progress


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of a text.

    Attributes:
        tokens: number of tokens predicted.
        loss: mean, nats a token.
        bytes: of text that the tokens stand for.
        bits_per_byte: infinite if there is no text.
    """

    tokens: int
    loss: float
    bytes: int
    bits_per_byte: float


def token_bytes() -> Tensor:
    """Bytes of text that each of GPT-2's tokens stands for, int64 [V]."""
    encoding = gpt2_encoding()
    lengths = [len(encoding.decode_single_token_bytes(token)) for token in range(VOCABULARY_SIZE)]
    lengths[BOS_TOKEN] = 0
    return torch.tensor(lengths)


def evaluate(
    model: EvaluatedModel, batches: Iterable[ValidationBatch], progress: Progress
) -> Evaluation:
    """Predict a text, each token once. Sums are float64.

    Args:
        model: in the state it is to be judged in.
        batches: the text, packed.
        progress: told of every token.
    """
    bytes_V = token_bytes()
    tokens = text_bytes = 0
    nats = text_nats = 0.0
    for batch in batches:
        losses_T = model.token_losses(batch.tokens_T, batch.targets_T, batch.positions_T)
        losses_T = losses_T[: batch.valid_tokens].double().cpu()
        targets_T = batch.targets_T[: batch.valid_tokens].long().cpu()
        tokens += batch.valid_tokens
        nats += float(losses_T.sum())
        text_nats += float(losses_T[targets_T != BOS_TOKEN].sum())
        text_bytes += int(bytes_V[targets_T].sum())
        progress.advance(batch.valid_tokens)
    bits_per_byte = text_nats / math.log(2) / text_bytes if text_bytes else math.inf
    return Evaluation(tokens, nats / tokens, text_bytes, bits_per_byte)


def read_tokens(path: Path) -> IndexedShard:
    """A shard (.bin), or any UTF-8 text file as one document.

    Raises:
        UserError: there is no such file, it is no text, or it holds nothing to predict.
        ShardError: it ends in .bin and is no shard.
    """
    if path.suffix == ".bin":
        tokens = open_shard(path)
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}: byte {error.start} is not UTF-8; expected a text file, or a shard "
                "whose name ends in .bin"
            ) from None
        tokens = encode_document(text)
    if tokens.size < 2:
        raise UserError(f"{path}: expected at least one token of text, found none")
    return IndexedShard(tokens, np.zeros(1, dtype=np.int64))
