"""Commands and example of docs/using_the_model.md, on a tiny network's weights."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pipeline.sample
import ramengpt.inference.evaluate
import ramengpt.inference.generate
from ramengpt.cli import run_main
from ramengpt.data.batches.batcher import BatchRequest, IndexedShard
from ramengpt.data.batches.loader import validation_batches
from ramengpt.data.batches.validation_stream import ValidationStream
from ramengpt.data.shards.format import ShardWriter
from ramengpt.data.text.tokenizer import encode_document
from ramengpt.inference.held_out_loss import validation_loss
from tests.conftest import ROOT
from tests.inference.tiny_weights import (
    MAX_SEQUENCE_TOKENS,
    MICRO_BATCH_TOKENS,
    export_tiny,
    tiny_model,
)

PROMPT = "Return the number of"


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(autouse=True)
def project(tmp_path, model, monkeypatch) -> Path:
    """A folder with params.yaml and models/, the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # a CPU that computes in float32
    shutil.copy(ROOT / "params.yaml", tmp_path)
    export_tiny(tmp_path / "models", model)
    return tmp_path


def call(monkeypatch, main, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    main()


def test_the_documented_example_says_what_generate_says(monkeypatch, capsys):
    text = (ROOT / "docs/using_the_model.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert sum(bool(line.strip()) for line in example.splitlines()) <= 20
    assert "transformers" not in example
    exec(compile(example, "using_the_model.md", "exec"), {})
    printed = capsys.readouterr().out
    prompt_tokens = len(encode_document(PROMPT))
    drawn = ["--temperature", "0", "--new_tokens", str(40 - prompt_tokens)]
    call(monkeypatch, ramengpt.inference.generate.main, "--prompt", PROMPT, *drawn)
    assert capsys.readouterr().out == printed
    assert printed.startswith(PROMPT) and len(printed) > len(PROMPT) + 1


def test_generate_streams_and_repeats_itself_for_a_seed(monkeypatch, capsys):
    texts = []
    for seed in ("3", "3", "4"):
        call(monkeypatch, ramengpt.inference.generate.main, "--prompt", "One", "--seed", seed)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "a", "--weights", "nowhere"], "nowhere: no such folder"),
        (["--prompt", " "], "--prompt: expected at least one word"),
        (["--prompt", "a", "--temperature", "-1"], "sample.temperature"),
        (["--prompt", "word " * 100], "fewer than 64 tokens"),
    ],
)
def test_generate_says_in_one_line_what_it_cannot_do(monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, lambda: run_main(ramengpt.inference.generate.main), *arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith("error: ") and said.count("\n") == 1 and message in said


def test_the_sample_stage_writes_a_page_with_every_prompt(project, monkeypatch):
    call(monkeypatch, pipeline.sample.main)
    page = (project / "results/samples.md").read_text()
    prompts = pipeline.sample.load_config().sample.prompts
    assert [page.count(f"> **{prompt}**") for prompt in prompts] == [1] * len(prompts)
    call(monkeypatch, pipeline.sample.main)
    assert (project / "results/samples.md").read_text() == page


def test_evaluate_agrees_with_training_on_shards_and_text(project, model, monkeypatch, capsys):
    documents = ["To be, or not to be. " * 20, "that is", "the question, 🍜. " * 15]
    tokens = np.concatenate([encode_document(text) for text in documents])
    with ShardWriter(project / "x_val_000000.bin") as writer:
        writer.write(tokens)
    (project / "a.txt").write_text(documents[0])
    call(monkeypatch, ramengpt.inference.evaluate.main, "x_val_000000.bin", "a.txt")
    lines = capsys.readouterr().out.splitlines()
    for line, expected in zip(lines, (tokens, encode_document(documents[0])), strict=True):
        stream = ValidationStream([IndexedShard(expected, np.zeros(1, np.int64))], 2**62)
        request = BatchRequest(MICRO_BATCH_TOKENS, MAX_SEQUENCE_TOKENS)
        with model.temporary_window(256):
            batches = validation_batches(stream, request, torch.device("cpu"))
            loss = validation_loss(model, batches)
        assert f"loss {loss:.4f} nats a token" in line
        assert f"({len(expected) - 1} tokens" in line
    assert f"{len(documents[0])} bytes)" in lines[1]
    call(monkeypatch, ramengpt.inference.evaluate.main, "a.txt", "--tokens", "10")
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
        call(monkeypatch, lambda: run_main(ramengpt.inference.evaluate.main), *arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith("error: ") and said.count("\n") == 1 and message in said
