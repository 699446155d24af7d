"""Loss and bits per byte of shards and texts on the command line."""

import numpy as np
import pytest
import torch

from ramengpt.cli import run_main
from ramengpt.data.batches.batcher import BatchRequest
from ramengpt.data.batches.indexed_split import IndexedShard
from ramengpt.data.batches.loader import validation_batches
from ramengpt.data.batches.validation_stream import ValidationStream
from ramengpt.data.shards.format import ShardWriter
from ramengpt.data.text.tokenizer import encode_document
from ramengpt.inference import evaluate
from ramengpt.inference.held_out_loss import validation_loss
from tests.inference.tiny_weights import MAX_SEQUENCE_TOKENS, MICRO_BATCH_TOKENS, call

pytestmark = pytest.mark.usefixtures("project")


def test_evaluate_agrees_with_training_on_shards_and_text(project, model, monkeypatch, capsys):
    documents = ["To be, or not to be. " * 20, "that is", "the question, 🍜. " * 15]
    tokens = np.concatenate([encode_document(text) for text in documents])
    with ShardWriter(project / "x_val_000000.bin") as writer:
        writer.write(tokens)
    (project / "a.txt").write_text(documents[0])
    call(monkeypatch, evaluate.main, "x_val_000000.bin", "a.txt")
    lines = capsys.readouterr().out.splitlines()
    for line, expected in zip(lines, (tokens, encode_document(documents[0])), strict=True):
        stream = ValidationStream([IndexedShard(expected, np.zeros(1, np.int64))], 2**62)
        request = BatchRequest(MICRO_BATCH_TOKENS, MAX_SEQUENCE_TOKENS)
        with model.temporary_window(256):
            batches = validation_batches(stream, request, torch.device("cpu"))
            loss = validation_loss(model, batches).loss
        assert f"loss {loss:.4f} nats/token" in line
        assert f"({len(expected) - 1} tokens" in line
    assert f"{len(documents[0])} bytes)" in lines[1]
    call(monkeypatch, evaluate.main, "a.txt", "--tokens", "10")
    assert "(10 tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.txt"], "nowhere.txt: cannot be read"),
        (["nowhere.bin"], "nowhere.bin"),
        (["params.yaml", "--tokens", "0"], "--tokens: expected at least 1"),
        (["params.yaml", "--weights", "nowhere"], "nowhere: no such folder"),
        ([], "manifest.json"),
    ],
)
def test_evaluate_says_in_one_line_what_it_cannot_do(monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, lambda: run_main(evaluate.main), *arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith("error: ") and said.count("\n") == 1 and message in said
