"""What reruns when, with real DVC in a fresh clone: the promises of dvc.yaml."""

import json
import re

import pytest

from tests.small_project import ALL, Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


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


def test_an_inactive_value_reruns_the_check_alone(project: Project) -> None:
    for key, value in (
        ("optimizers.bam.learning_rate", 0.0123),
        ("bases.covariances.every_steps", 11),
        ("architectures.plain.attention_scale_gain", 0.2),
        ("schedules.small.scheduled_steps", 4001),
        ("datasets.fineweb10B.train_shards", 3),
        ("download.attempts", 7),
    ):
        project.set(key, value)
    assert project.repro() == ["check"]


def test_an_active_value_reruns_training(project: Project) -> None:
    assert stale(project, "polynomials.polar_express.cushion", 0.03) == ["train", "sample"]
    project.set("optimizer", "bam")
    project.set("architecture", "plain")
    assert project.repro() == ["check", "train", "sample"]
    for key, value in (
        ("optimizers.bam.learning_rate", 0.0124),
        ("architectures.plain.attention_scale_gain", 0.15),
        ("schedules.instant.scheduled_steps", 3),
    ):
        assert stale(project, key, value) == ["train", "sample"]
    assert project.repro() == ["check"], "the values are back"


def stale(project: Project, key: str, value: object) -> list[str]:
    """Stages that DVC would run with another value; params.yaml is as before afterwards.

    Stage check has withdrawn the outputs of the run with the value before.
    """
    path = project.folder / "params.yaml"
    before = path.read_text()
    project.set(key, value)
    project.run("dvc", "repro", "check")
    stages = re.findall(r"^(\w+):$", project.run("dvc", "status"), re.MULTILINE)
    path.write_text(before)
    return stages


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
    assert ".gitkeep" not in project.run("git", "status", "--short")


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
    """With the original's environment: its layout of shards, its micro-batch, no checkpoints."""
    before = (project.folder / "models/model.safetensors").read_bytes()
    store, seeds = project.folder / "data/shards/text", project.folder / "runs/seed"
    (seeds / "data").mkdir(parents=True)
    store.rename(seeds / "data/text")
    printed = project.run(
        "python", "-m", "pipeline.train", "--early_stop_steps", "2", "--seed", "123",
        "--activation", "swiglu", "--ffn_dim", "64", "--checkpoint_every", "0",
        "--set", "optimizer=adam", "--out", "runs/smoke",
        BATCH_SIZE_MULTIPLE="1", DATA_PATH="runs/seed",
    )  # fmt: skip
    assert "BATCH_SIZE_MULTIPLE=1: micro-batches of 1 x 128 = 128 tokens; " in printed
    assert f"DATA_PATH=runs/seed: the shards are in {seeds}/data/text\n" in printed
    run = json.loads((project.folder / "runs/smoke/models/config.json").read_text())["run"]
    assert (run["slice_sequences"], run["environments"][0]["micro_batch_tokens"]) == (1, 128)
    assert run["data_path"] == "runs/seed"
    assert "swiglu" in json.dumps(run)
    assert not store.exists()
    (seeds / "data/text").rename(store)
    assert (project.folder / "models/model.safetensors").read_bytes() == before
    assert project.repro() == []
