"""The harness's own definitions of public tasks, on tiny data from the loopback Hub."""

import functools
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ramengpt.data.text.tokenizer import gpt2_encoding
from ramengpt.errors import UserError
from tests.inference.public_tasks import (
    ARC,
    BLIMP,
    HELLASWAG,
    LAMBADA,
    PIQA,
    public_repositories,
)
from tests.inference.test_continuations import MODEL, alone
from tests.loopback_hub import LoopbackHub

FAMILIES = ("hellaswag", "lambada", "arc", "piqa", "blimp")
PART = "adjunct_island"


@pytest.fixture
def evaluate_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Ours, knowing these families only: reading all ten thousand tasks takes seconds."""
    import lm_eval

    from ramengpt.inference import harness

    definitions = Path(lm_eval.__file__).parent / "tasks"
    for family in FAMILIES:
        shutil.copytree(definitions / family, tmp_path / "tasks" / family)
    known = functools.partial(harness.TaskManager, include_defaults=False)
    monkeypatch.setattr(harness, "TaskManager", known)
    return functools.partial(
        harness.evaluate_tasks, MODEL, limit=None, include_path=tmp_path / "tasks"
    )


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have the clients, which read the environment once, ask the Hub at an address."""
    import datasets
    from huggingface_hub import constants

    def ask(url: str) -> None:
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "data")
        for module in (constants, datasets.config):
            monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)

    return ask


def score(context: str, continuation: str) -> tuple[float, bool]:
    """Of a continuation after a text, one document at a time; a space belongs to what follows."""
    encode = gpt2_encoding().encode_ordinary
    prefix = encode(context)
    return alone(MODEL, prefix, encode(context + continuation)[len(prefix) :])


def accuracies(questions: list[tuple[str, list[str], int]]) -> dict[str, float]:
    """Shares of questions whose likeliest choice is right, by sum and by mean per character."""
    right = {"acc,none": 0, "acc_norm,none": 0}
    for context, choices, answer in questions:
        sums = [score(context, f" {choice}")[0] for choice in choices]
        means = [total / len(choice) for total, choice in zip(sums, choices, strict=True)]
        right["acc,none"] += sums.index(max(sums)) == answer
        right["acc_norm,none"] += means.index(max(means)) == answer
    return {name: count / len(questions) for name, count in right.items()}


def test_public_tasks_are_scored_as_by_hand(
    evaluate_tasks: Callable[..., Any], ask: Callable[[str], None]
) -> None:
    names = ["hellaswag", "lambada_openai", "arc_easy", "piqa", f"blimp_{PART}"]
    with LoopbackHub(public_repositories([PART])) as hub:
        ask(hub.url)
        results = evaluate_tasks(names)["results"]
    first, second = HELLASWAG
    expected = {
        "hellaswag": accuracies([
            (f"{first['activity_label']}: {first['ctx_a']} He", first["endings"], 3),
            (
                "Home and Garden:",
                [" Water it. Every day.", " Leave it alone.", *second["endings"][2:]],
                1,
            ),
        ]),
        "arc_easy": accuracies([
            (
                f"Question: {question['question']}\nAnswer:",
                question["choices"]["text"],
                question["choices"]["label"].index(question["answerKey"]),
            )
            for question in ARC
        ]),
        "piqa": accuracies([
            (f"Question: {each['goal']}\nAnswer:", [each["sol1"], each["sol2"]], each["label"])
            for each in PIQA
        ]),
    }  # fmt: skip
    pairs = [("", [each["sentence_good"], each["sentence_bad"]], 0) for each in BLIMP]
    expected[f"blimp_{PART}"] = {"acc,none": accuracies(pairs)["acc,none"]}
    words = [each["text"].rpartition(" ") for each in LAMBADA]
    last = [score(context, f" {word}") for context, _, word in words]
    mean = sum(likelihood for likelihood, _ in last) / len(last)
    expected["lambada_openai"] = {
        "acc,none": sum(is_greedy for _, is_greedy in last) / len(last),
        "perplexity,none": math.exp(-mean),
    }
    for task, metrics in expected.items():
        found = {name: results[task][name] for name in metrics}
        assert found == pytest.approx(metrics, rel=1e-3), task


def test_a_hub_that_refuses_or_does_not_answer_is_one_line(
    evaluate_tasks: Callable[..., Any], ask: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's attempts
    with LoopbackHub({}) as hub:
        ask(hub.url)
        with pytest.raises(UserError, match=r"--tasks: the Hub .*baber/piqa") as refusal:
            evaluate_tasks(["piqa"])
    ask("http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"--tasks: the Hub .*baber/piqa.*HF_ENDPOINT") as silence:
        evaluate_tasks(["piqa"])
    assert "\n" not in f"{refusal.value}{silence.value}"
