"""The command line of training."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import torch

import pipeline.train
from ramengpt.cli import run_main
from ramengpt.data.shards.checksums import CACHE_NAME
from ramengpt.training.schedule.plan_table import plan_table
from ramengpt.training.session.settings import RunOptions, plans_of
from tests.conftest import ROOT
from tests.training.tiny_run import log_rows, make_tiny_project

Train = Callable[..., str]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with chdir(folder):
        make_tiny_project(folder)
    return folder


@pytest.fixture(autouse=True)
def project(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tiny project, the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    for name in ("DATA_PATH", "DVC_ROOT", "BATCH_SIZE_MULTIPLE"):
        monkeypatch.delenv(name, raising=False)
    yield folder


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Train:
    """The command; gives back what it wrote to standard output."""

    def run(*flags: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train", *flags])
        pipeline.train.main()
        return capsys.readouterr().out

    return run


def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *flags: str
) -> str:
    monkeypatch.setattr(sys, "argv", ["train", *flags])
    with pytest.raises(SystemExit) as ended:
        run_main(pipeline.train.main)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1, said
    return said


def files(*folders: str) -> dict[str, bytes]:
    """All but the cache of checksums, which is written once shards are older than two seconds."""
    return {
        str(file): file.read_bytes()
        for folder in folders
        for file in Path(folder).rglob("*")
        if file.is_file() and file.name != CACHE_NAME
    }


def test_flags_stand_for_keys_of_params(train: Train) -> None:
    train(
        "--early_stop_steps", "2", "--seed", "123", "--activation", "swiglu", "--ffn_dim", "64",
        "--checkpoint_every", "1", "--set", "optimizer=adam", "--set", "seed=5", "--out", "smoke",
    )  # fmt: skip
    run = json.loads(Path("smoke/models/config.json").read_text())["run"]
    assert run["early_stop_steps"] == 2
    assert run["seed"] == 123, "the flag wins"
    assert run["architecture"]["activation"] == "swiglu"
    assert run["model"]["ffn_dim"] == 64
    assert run["optimizer_name"] == "adam"
    assert len(log_rows(Path("smoke/results/train.tsv"))) == 2


def test_checkpoint_every_stands_for_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--checkpoint_every", "9", "--ffn_dim", "auto"])
    config = pipeline.train.config_of(pipeline.train.parser().parse_args())
    assert config.train.checkpoint_every_steps == 9
    assert config.model.ffn_dim == "auto"


@pytest.mark.parametrize(
    "flags", [("--seed", "0"), ("--out", "mine", "--set", "schedules.instant.scheduled_steps=3")]
)
def test_any_flag_makes_a_scratch_run(train: Train, flags: tuple[str, ...]) -> None:
    for folder in ("models", "results/train"):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "metrics.json").write_text("of the stage")
    before = files("models", "results", "data")
    train(*flags)
    assert files("models", "results", "data") == before
    (place,) = [Path("mine")] if "--out" in flags else Path("runs").iterdir()
    assert (place / "models/model.safetensors").is_file()


def test_without_flags_it_is_the_stage(train: Train) -> None:
    train()
    assert set(files("models")) == {"models/model.safetensors", "models/config.json"}
    names = {"train.tsv", "validation.tsv", "plan.csv", "metrics.json"}
    assert set(files("results")) - {"results/run.lock"} == {
        f"results/train/{name}" for name in names
    }
    assert not list(Path("data/checkpoints").rglob("state.pt"))
    assert not Path("runs").exists()


def test_batch_size_multiple_counts_the_sequences_of_a_micro_batch(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_SIZE_MULTIPLE", "2")
    size = ["--set", "schedules.instant.micro_batch_tokens=512"]
    said = train("--early_stop_steps", "1", "--out", "split", *size)
    assert (
        "BATCH_SIZE_MULTIPLE=2: micro-batches of 2 x 128 = 256 tokens; "
        "a step accumulates as many as its tokens need\n"
    ) in said
    assert log_rows(Path("split/results/train.tsv"))[0]["batch_tokens"] == "512"
    run = json.loads(Path("split/models/config.json").read_text())["run"]
    assert run["slice_sequences"] == 2
    assert run["environments"][0]["micro_batch_tokens"] == 256


def test_the_original_scripts_config_flag_is_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(monkeypatch, capsys, "--config", "config/base.py")
    assert "--config: values live in params.yaml; choose with --set model=base" in said


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("run.py", ["--config", "config/base.py"], "dvc exp run -S dataset=fineweb10B "),
        ("data/cached_fineweb10B.py", ["9"], "datasets.fineweb10B.train_shards: 9 in params.yaml"),
    ],
)
def test_the_original_scripts_say_what_replaced_them(
    script: str, arguments: list[str], said: str
) -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / script, *arguments], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"{script}: ") and ended.stderr.count("\n") == 1
    assert said in ended.stderr


def test_an_unknown_wandb_mode_is_refused_before_outputs_are_touched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "of\nline")
    before = files("results", "models", "data")
    assert r"WANDB_MODE: expected online, offline or disabled, found 'of\nline'" in refusal(
        monkeypatch, capsys
    )
    assert files("results", "models", "data") == before


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²", " "])
def test_a_bad_batch_size_multiple_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("BATCH_SIZE_MULTIPLE", value)
    said = refusal(monkeypatch, capsys)
    assert f"BATCH_SIZE_MULTIPLE: expected a whole number from 1, found {value!r}" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--early_stop_steps", "ten"], "--early_stop_steps: invalid int value: 'ten'"),
        (["--early_stop_steps", "0"], "--early_stop_steps: expected at least 1, found 0"),
        (["--stop_at_loss", "0"], "--stop_at_loss: expected a number above 0, found 0"),
        (["--stop_after_seconds", "inf"], "--stop_after_seconds: expected a number above 0, found"),
        (
            ["--stop_after_seconds", "9", "--early_stop_steps", "2"],
            "it cannot be combined with --early_stop_steps; leave one out",
        ),
        (["--steps", "3"], "unrecognized arguments: --steps 3"),
        (["--seed", "-1"], "seed: expected "),
        (["--checkpoint_every", "-1"], "train.checkpoint_every_steps: expected "),
        (["--activation", "tanh"], "activation: expected "),
        (["--ffn_dim", "7"], "ffn_dim: expected 'auto' or a multiple of 8, found 7"),
        (["--ffn_dim", "wide"], "ffn_dim: expected 'auto' or integer, found 'wide'"),
        (["--set", "optimizer"], "override 'optimizer': expected key=value"),
        (["--set", "optimizer=adamz"], "did you mean 'adam'?"),
        (["--set", "sed=3"], "did you mean 'seed'?"),
        (["--set", "dataset=docstrings"], "found 'text'; select it in params.yaml"),
        (["--set", "models.instant.vocabulary=1000"], "vocabulary: expected at least the 50257 "),
        (
            ["--set", "architectures.ramen.logit_scale=81.0"],
            "logit_scale: expected less than or equal",
        ),
        (["--set", "train.attention_backend=flex"], "flex needs an NVIDIA GPU"),
        (["--out", "models"], "--out: expected a folder of its own"),
        (["--out", "params.yaml"], "error: params.yaml: File exists; something that is no folder"),
        (["--out", "/proc/x"], "error: /proc/x: No such file"),
        (["--seed", "x" * 9999], "xxx... (10,0"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_touches_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert message in refusal(monkeypatch, capsys, *flags)
    assert not list(Path("runs").glob("*/models"))
    assert not Path("models").exists()


def test_the_plan_is_printed_and_nothing_is_done(train: Train) -> None:
    shutil.rmtree("data")  # not even data are needed
    said = train("--plan", "--early_stop_steps", "7")
    config = pipeline.train.load_config()
    assert said == plan_table(plans_of(config, RunOptions(7, None))) + "\n"
    assert re.search(r"^7 steps, [\d,]+ tokens$", said, flags=re.MULTILINE)
    assert [path.name for path in Path.cwd().iterdir()] == ["params.yaml"]
