"""What reruns when, with real DVC in a fresh clone: the promises of dvc.yaml."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_project import ALL, Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def project(
    reproduced: Callable[[Path], Project], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    return reproduced(tmp_path_factory.mktemp("project") / "clone")


# The tests below share one clone; each leaves it reproduced.


def test_the_outputs_are_where_readme_says(project: Project) -> None:
    for file in ("model.safetensors", "config.json"):
        assert (project.folder / "models" / file).is_file()
    metrics = json.loads((project.folder / "results/train/metrics.json").read_text())
    assert 0 < metrics["validation"]["loss"] < 10.8  # of a guess: ln 50257
    assert "Return the" in (project.folder / "results/samples.md").read_text()
    assert (project.folder / "data/manifest.json").is_file()
    assert project.run("git", "status", "--short") == ""
    assert not list((project.folder / "data/checkpoints").rglob("state.pt"))


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert project.repro() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizers.bam.learning_rate", 0.0123),
        ("bases.covariances.every_steps", 11),
        ("architectures.plain.attention_scale_gain", 0.2),
        ("schedules.small.scheduled_steps", 4001),
        ("datasets.fineweb10B.train_shards", 3),
        ("download.attempts", 7),
    ],
)
def test_an_inactive_value_reruns_the_check_alone(
    project: Project, key: str, value: object
) -> None:
    project.set(key, value)
    assert project.repro() == ["check"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("polynomials.polar_express.cushion", 0.03),
        ("optimizer", "bam"),
        ("architecture", "plain"),
        ("optimizers.bam.learning_rate", 0.0124),
        ("architectures.plain.attention_scale_gain", 0.15),
        ("schedules.instant.scheduled_steps", 3),
    ],
)
def test_an_active_value_reruns_training(project: Project, key: str, value: object) -> None:
    project.set(key, value)
    assert project.repro() == ["check", "train", "sample"]


def test_code_that_training_imports_reruns_training_alone(project: Project) -> None:
    project.edit("ramengpt/data/batches/batcher.py", "EDITED = True")
    assert project.repro() == ["check", "train"], "the same weights, so that samples stay"


def test_the_number_of_shards_reruns_everything(project: Project) -> None:
    project.set("datasets.text.shard_tokens", 2000)
    assert project.repro() == ALL


def test_an_unknown_optimizer_does_not_cost_the_last_outputs(project: Project) -> None:
    before = (project.folder / "models/model.safetensors").read_bytes()
    params = (project.folder / "params.yaml").read_text()
    printed = project.run("dvc", "exp", "run", "-S", "optimizer=adamz", fails=True)
    assert "adamz" in printed
    (project.folder / "params.yaml").write_text(params)
    printed = project.run("dvc", "exp", "run", "-S", "+optimizr=adam", fails=True)
    assert "params.yaml: optimizr: unknown key; did you mean 'optimizer'?" in printed
    (project.folder / "params.yaml").write_text(params)
    project.set("optimizers.bam.learning_rate", "fast")
    printed = project.run("dvc", "repro", fails=True)
    assert "optimizers.bam.learning_rate: expected number, found 'fast'" in printed
    assert "Traceback" not in printed
    assert (project.folder / "models/model.safetensors").read_bytes() == before
    (project.folder / "params.yaml").write_text(params)
    assert project.repro() in (["check"], [])
    assert project.run("git", "status", "--short") == " M params.yaml\n"


def test_a_stage_run_without_the_check_deletes_nothing_for_good(project: Project) -> None:
    """With `-s`, DVC deletes the outputs of a stage before anything can refuse a value."""
    before = (project.folder / "models/model.safetensors").read_bytes()
    params = (project.folder / "params.yaml").read_text()
    project.set("optimizer", "adamz")
    printed = project.run("dvc", "repro", "-s", "train", fails=True)
    assert "Parameters 'optimizers.adamz' are missing from 'params.yaml'" in printed
    assert not (project.folder / "models").exists()
    (project.folder / "params.yaml").write_text(params)
    project.run("dvc", "checkout")
    assert (project.folder / "models/model.safetensors").read_bytes() == before
    assert project.repro() == []


def test_scratch_runs_leave_the_stage_alone(project: Project) -> None:
    before = (project.folder / "models/model.safetensors").read_bytes()
    printed = project.run(
        "python", "-m", "pipeline.train", "--early_stop_steps", "2", "--seed", "123",
        "--activation", "swiglu", "--ffn_dim", "64", "--checkpoint_every", "1",
        "--set", "optimizer=adam", "--out", "runs/smoke", BATCH_SIZE_MULTIPLE="2",
    )  # fmt: skip
    assert "BATCH_SIZE_MULTIPLE=2" in printed
    config = json.loads((project.folder / "runs/smoke/models/config.json").read_text())
    assert "swiglu" in json.dumps(config)
    assert (project.folder / "models/model.safetensors").read_bytes() == before
    assert project.repro() == []
