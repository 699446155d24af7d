"""Weights to a Hub and back, on the loopback Hub, by the command that people type."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from ramengpt.errors import UserError
from ramengpt.inference import share
from ramengpt.inference.weights import export_weights
from tests.inference.tiny_weights import MICRO_BATCH_TOKENS, call, tiny_model
from tests.loopback_hub import TOKEN, LoopbackHub

RUN = {
    "dataset_name": "docstrings", "model_name": "instant", "architecture_name": "ramen",
    "optimizer_name": "bam", "schedule_name": "instant", "seed": 7,
    "environments": [{"device": "A Card", "torch": "2.13.0"}],
}  # fmt: skip
METRICS = {"finished": True, "validation": {"loss": 3.25}, "speed": {"tokens_per_second": 5800.0}}
FILES = {"model.safetensors", "config.json", "metrics.json", "samples.md", "README.md"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub without repositories, and a current folder with a finished run."""
    results = tmp_path / "results" / "train"
    results.mkdir(parents=True)
    (results / "metrics.json").write_text(json.dumps(METRICS))
    (tmp_path / "results/samples.md").write_text("# Samples\n")
    judged = {"window_tokens": 256, "micro_batch_tokens": MICRO_BATCH_TOKENS}
    export_weights(tiny_model(), tmp_path / "models", **judged, run=RUN)
    monkeypatch.chdir(tmp_path)
    with LoopbackHub({}) as hub:
        for name, value in hub.environment(str(tmp_path / "home")).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        # The client read the environment when it was imported.
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


def test_a_run_goes_to_the_hub_and_comes_back(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, share.main, "push", "me/tiny")
    assert f"shared at {hub.url}/me/tiny" in capsys.readouterr().out
    files = hub.repositories["me/tiny"]
    assert set(files) == FILES
    card = files["README.md"].decode()
    assert "library_name: ramengpt" in card and "| validation loss | 3.25 |" in card
    assert "dvc exp run -S dataset=docstrings -S model=instant" in card and "-S seed=7" in card
    assert "A Card" in card and "share pull me/tiny" in card
    call(monkeypatch, share.main, "pull", "me/tiny", "--to", "theirs")
    assert {path.name for path in Path("theirs").iterdir()} == FILES
    for name in ("model.safetensors", "config.json"):
        assert Path("theirs", name).read_bytes() == Path("models", name).read_bytes()
    with pytest.raises(UserError, match="theirs: exists already"):
        call(monkeypatch, share.main, "pull", "me/tiny", "--to", "theirs")
    monkeypatch.setenv("HF_TOKEN", "another")
    with pytest.raises(UserError, match="the Hub gave no usable answer"):
        call(monkeypatch, share.main, "push", "me/tiny")


def test_what_cannot_be_shared_is_one_line(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(*arguments: str) -> str:
        with pytest.raises(UserError) as error:
            call(monkeypatch, share.main, *arguments)
        assert "\n" not in str(error.value)
        return str(error.value)

    monkeypatch.setenv("HF_TOKEN", "another")
    assert "me/tiny: the Hub refused (401)" in refusal("push", "me/tiny")
    assert "me/nothing: the Hub refused" in refusal("pull", "me/nothing")
    assert "expected OWNER/NAME" in refusal("pull", "me/no/thing")
    Path("results/train/metrics.json").write_text('{"finished": false}')
    assert "no finished metrics.json" in refusal("push", "me/tiny")
    assert not hub.repositories.get("me/tiny")
