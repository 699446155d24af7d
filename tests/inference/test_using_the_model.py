"""The example of docs/using_the_model.md, on a tiny network's weights."""

import re

import pytest

import ramengpt.inference.generate
from ramengpt.data.text.tokenizer import encode_document
from tests.conftest import ROOT
from tests.inference.tiny_weights import call

PROMPT = "Return the number of"

pytestmark = pytest.mark.usefixtures("project")


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
