import math
import os

import numpy as np
import pytest
import torch

from ramengpt.data.batches.batcher import BatchRequest
from ramengpt.data.batches.validation_stream import ValidationStream
from ramengpt.data.shards.format import BOS_TOKEN, ShardError, ShardWriter
from ramengpt.data.text.tokenizer import encode_document, gpt2_encoding
from ramengpt.errors import UserError
from ramengpt.inference import text_evaluation
from ramengpt.inference.text_evaluation import Evaluation, evaluate, read_tokens
from tests.data.make_shards import shard_bytes

CPU = torch.device("cpu")


class Uniform:
    """Gives every token the same probability, but for BOS, which it never expects."""

    def token_losses(self, tokens_T, targets_T, positions_T):
        return torch.where(targets_T == BOS_TOKEN, 50.0, math.log(50256)).float()


def judge(path) -> Evaluation:
    stream = ValidationStream([read_tokens(path)], 2**62)
    return evaluate(Uniform(), stream, BatchRequest(16, 8), CPU, "")


def test_text_counts_every_byte_once(tmp_path):
    text = "Ramen is 🍜, and naïve counting is not bytes.\n" * 5
    path = tmp_path / "a.txt"
    path.write_text(text)
    tokens = len(encode_document(text)) - 1
    result = judge(path)
    assert (result.tokens, result.bytes) == (tokens, len(text.encode()))
    assert result.loss == pytest.approx(math.log(50256), rel=1e-6)
    expected = tokens * math.log2(50256) / len(text.encode())
    assert result.bits_per_byte == pytest.approx(expected, rel=1e-6)


def test_openings_of_documents_are_loss_but_not_bits(tmp_path):
    documents = ["one two three", "four", "five six"]
    tokens = np.concatenate([encode_document(text) for text in documents])
    path = tmp_path / "x_val_000000.bin"
    with ShardWriter(path) as writer:
        writer.write(tokens)
    result = judge(path)
    words = len(tokens) - 3
    assert result.tokens == len(tokens) - 1
    assert result.bytes == sum(len(text) for text in documents)
    assert result.loss == pytest.approx((words * math.log(50256) + 2 * 50) / result.tokens)
    assert result.bits_per_byte == pytest.approx(words * math.log2(50256) / result.bytes)


@pytest.mark.parametrize("text", ["a\rb\rc", "a\r\nb\n\r", "\ufeffa\u2028b\x85c", "<|endoftext|>a"])
def test_exactly_the_bytes_of_a_file_are_scored(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    encoding = gpt2_encoding()
    tokens = read_tokens(path).tokens.tolist()
    assert encoding.decode_bytes(tokens[1:]) == text.encode()
    assert judge(path).bytes == len(text.encode())


def test_a_shards_name_may_be_in_capitals(tmp_path):
    path = tmp_path / "UP.BIN"
    path.write_bytes(shard_bytes([BOS_TOKEN, 1, 2]))
    assert read_tokens(path).tokens.tolist() == [BOS_TOKEN, 1, 2]


def test_tokens_that_gpt2_does_not_have_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(text_evaluation, "CHUNK_TOKENS", 2)
    path = tmp_path / "x.bin"
    path.write_bytes(shard_bytes([BOS_TOKEN, 1, 2, 50257, 60000]))
    with pytest.raises(
        ShardError, match="at byte 1030: expected below 50257, found 50257"
    ) as error:
        read_tokens(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["file.txt", "file.bin"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "nothing"])
def test_what_is_no_file_is_one_line(tmp_path, name, kind):
    path = tmp_path / ("a long name of a folder, " * 8) / name  # a message keeps a path's end
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(UserError, match=name) as error:
        read_tokens(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "at least one token"), (b"ok \xff", "byte 3 is not UTF-8"), (None, "cannot be read")],
)
def test_what_is_no_text_is_one_line(tmp_path, content, message):
    path = tmp_path / "file.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_tokens(path)
    assert "\n" not in str(error.value)
