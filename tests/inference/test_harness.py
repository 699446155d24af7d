"""lm-evaluation-harness on a small local task, against scores computed without it."""

import functools
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ramengpt.data.text.tokenizer import gpt2_encoding
from ramengpt.errors import UserError
from ramengpt.inference import evaluate
from tests.inference.test_continuations import MODEL, alone
from tests.inference.tiny_weights import (
    MAX_SEQUENCE_TOKENS,
    call,
    enter_trained_project,
    tiny_model,
)

QUESTIONS = [
    {"query": "The sky is", "choices": ["blue", "a bicycle", "two"], "answer": 0},
    {"query": "A cat says ", "choices": ["moo and then it sleeps", "miaow"], "answer": 1},
    {
        "query": "One and one make",
        "choices": ["three", "two", "an elephant in the room"],
        "answer": 1,
    },
    {"query": "Snow is", "choices": ["white", "loud"], "answer": 0},
]
TASK = """
task: tiny_questions
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: " "
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1
"""


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Our adapter, without the seconds that reading the harness's own ten thousand tasks takes."""
    from ramengpt.inference import harness

    without_its_own = functools.partial(harness.TaskManager, include_defaults=False)
    monkeypatch.setattr(harness, "TaskManager", without_its_own)
    return harness


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task of our own; nothing is fetched."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    (folder / "tiny_questions.yaml").write_text(TASK.format(file=file))
    return folder


def likelihoods(question: dict[str, Any]) -> list[float]:
    """Of each choice after its question, one document at a time."""
    encode = gpt2_encoding().encode_ordinary
    context = question["query"].rstrip()
    prefix = encode(context)
    wholes = [encode(f"{question['query']} {choice}") for choice in question["choices"]]
    return [alone(MODEL, prefix, whole[len(prefix) :])[0] for whole in wholes]


def test_the_harness_scores_a_task_as_we_do_by_hand(harness: ModuleType, tasks: Path) -> None:
    found = harness.evaluate_tasks(MODEL, ["tiny_questions"], limit=None, include_path=tasks)
    right = {"acc": 0, "acc_norm": 0}
    samples = sorted(found["samples"]["tiny_questions"], key=lambda sample: sample["doc_id"])
    for question, sample in zip(QUESTIONS, samples, strict=True):
        scores = likelihoods(question)
        assert [float(r[0]) for r in sample["filtered_resps"]] == pytest.approx(scores, abs=1e-3)
        lengths = [len(choice) for choice in question["choices"]]
        per_character = [score / length for score, length in zip(scores, lengths, strict=True)]
        right["acc"] += scores.index(max(scores)) == question["answer"]
        right["acc_norm"] += per_character.index(max(per_character)) == question["answer"]
    for name, count in right.items():
        assert found["results"]["tiny_questions"][f"{name},none"] == count / len(QUESTIONS)


def test_the_command_prints_the_harness_table_and_refuses_in_one_line(
    harness: ModuleType,
    tasks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    enter_trained_project(tmp_path, tiny_model(), monkeypatch)
    own = ("--include_path", str(tasks))
    call(monkeypatch, evaluate.main, "--tasks", "tiny_questions", "--limit", "2", *own)
    printed = capsys.readouterr().out
    assert "|tiny_questions|" in printed and "acc_norm" in printed
    with pytest.raises(UserError, match="--tasks: the harness has no no_such_task"):
        call(monkeypatch, evaluate.main, "--tasks", "no_such_task", *own)
    with pytest.raises(UserError, match="takes no FILE"):
        call(monkeypatch, evaluate.main, "README.md", "--tasks", "tiny_questions")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "ramengpt.inference.harness")
    with pytest.raises(UserError, match=r"pip install -e '.\[eval\]'"):
        call(monkeypatch, evaluate.main, "--tasks", "tiny_questions")


def test_a_long_text_is_scored_in_windows_each_token_once(harness: ModuleType) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 20
    tokens = gpt2_encoding().encode_ordinary(text)
    request = SimpleNamespace(args=(text,))
    (found,) = harness.HarnessModel(MODEL).loglikelihood_rolling([request])
    starts = range(0, len(tokens), MAX_SEQUENCE_TOKENS)
    assert len(starts) > 2 and len(tokens) % MAX_SEQUENCE_TOKENS
    expected = sum(
        alone(MODEL, tokens[:start], tokens[start : start + MAX_SEQUENCE_TOKENS])[0]
        for start in starts
    )
    assert found == pytest.approx(expected, abs=0.01)


def test_generation_is_greedy_and_ends_at_a_stop_text(harness: ModuleType) -> None:
    model = harness.HarnessModel(MODEL)

    def answer(**settings: Any) -> str:
        request = SimpleNamespace(args=("Once upon", {"max_gen_toks": 12, **settings}))
        (text,) = model.generate_until([request])
        return str(text)

    whole = answer()
    assert answer() == whole
    assert answer(until=[whole[3:6]]) == whole[: whole.find(whole[3:6])]
    with pytest.raises(UserError, match="samples its answers"):
        answer(do_sample=True, temperature=0.7)
