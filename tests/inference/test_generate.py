"""Text from a trained model on the command line."""

import pytest

from ramengpt.cli import run_main
from ramengpt.inference import generate
from tests.inference.tiny_weights import call

pytestmark = pytest.mark.usefixtures("project")


def test_generate_streams_and_repeats_itself_for_a_seed(monkeypatch, capsys):
    texts = []
    for seed in ("3", "3", "4"):
        call(monkeypatch, generate.main, "--prompt", "One", "--seed", seed)
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
        call(monkeypatch, lambda: run_main(generate.main), *arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith("error: ") and said.count("\n") == 1 and message in said


def test_a_flag_goes_before_params_yaml(monkeypatch):
    monkeypatch.setattr("sys.argv", ["generate", "--prompt", "a", "--top_k", "3"])
    config = generate.sample_config(generate.parser().parse_args())
    unchanged = generate.load_config().sample
    assert config == unchanged.model_copy(update={"top_k": 3})
