"""What a run writes, and what it leaves alone when it goes wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ramengpt.config import load_config
from ramengpt.errors import UserError
from ramengpt.inference.held_out_loss import HeldOutLoss
from ramengpt.model.gpt import GPT
from ramengpt.training import loop
from ramengpt.training.loop import DivergedError
from ramengpt.training.run import train
from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.session.folders import SAMPLES_FILE, RunFolders, stage_folders
from ramengpt.training.session.outputs import RESULT_FILES
from ramengpt.training.session.settings import RunOptions
from ramengpt.training.tracking import tracker
from tests.training.tiny_run import (
    Intervene,
    adopt_store,
    before_each_step,
    log_rows,
    make_tiny_project,
    result,
    saved_steps,
    stop_in,
    train_in,
    write_documents,
)

pytestmark = [
    pytest.mark.usefixtures("inside_project"),
]


def poison_before(step: int) -> Intervene:
    def poison(plan: StepPlan, model: GPT) -> None:
        if plan.step == step:
            model.head.weight.data[0, 0] = float("nan")

    return poison


def put_outputs_of_an_earlier_run() -> None:
    """Files where a stage's outputs lie."""
    folders = stage_folders()
    files = [folders.models / name for name in ("model.safetensors", "config.json")]
    files += [SAMPLES_FILE, *(folders.results / name for name in RESULT_FILES)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"earlier {file.name}".encode())


def check_unfinished(folders: RunFolders, steps: int) -> None:
    """Nothing is there but numbers of this run, marked as what they are."""
    assert not folders.models.exists() and not SAMPLES_FILE.exists()
    metrics = json.loads((folders.results / "metrics.json").read_text())
    assert (metrics["finished"], metrics["step"]) == (False, steps)
    assert all("earlier" not in (folders.results / name).read_text() for name in RESULT_FILES)


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_no_other_runs_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_outputs_of_an_earlier_run()
    before_each_step(monkeypatch, poison_before(6))
    with pytest.raises(DivergedError) as diverged:
        train(lambda: load_config(["seed=99"]), RunOptions(None, None), stage_folders())
    message = str(diverged.value)
    assert "\n" not in message
    assert message.startswith("step 7: the train loss is nan (gradient_norm_embedding: nan, ")
    assert "gradient_norm_hidden: nan, gradient_norm_scalar: nan)" in message
    (folder,) = (saved.parent for saved in Path("data/checkpoints").resolve().glob("*/*04"))
    assert f"last good checkpoint: {folder / 'step-00000006'}" in message
    check_unfinished(stage_folders(), 7)
    saved = sorted(folder.glob("step-*/state.pt"))
    assert [file.parent.name for file in saved] == ["step-00000004", "step-00000006"]
    for file in saved:
        assert all(bool(tensor.isfinite().all()) for tensor in tensors(torch.load(file)))
    assert [row["loss"] for row in log_rows(Path("results/train/train.tsv"))][-1] == "nan"


def test_no_checkpoint_holds_what_an_update_made_infinite(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss and the norms of a step are measured before its update."""

    original = loop.train_step

    def step(loss_function: Any, batches: Any, optimizers: Any, plan: StepPlan, _: Any) -> Any:
        measured = original(loss_function, batches, optimizers, plan)
        if plan.step == 3:
            next(iter(loss_function.parameters())).data.view(-1)[0] = float("inf")
        return measured

    monkeypatch.setattr(loop, "train_step", step)
    with pytest.raises(DivergedError, match=r"step 4: model\.\S+ holds a value that is not finite"):
        train_in(out)
    assert saved_steps(out) == [2]


def test_inputs_edited_while_training_leave_no_output(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_outputs_of_an_earlier_run()
    seeds = iter((97, 96))
    with pytest.raises(UserError, match=r"^seed changed while this run trained"):
        train(lambda: load_config([f"seed={next(seeds)}"]), RunOptions(3, None), stage_folders())
    folders = stage_folders()
    assert not folders.models.exists()
    assert json.loads((folders.results / "metrics.json").read_text()) == {"finished": False}
    assert all((folders.results / name).read_bytes() == b"" for name in RESULT_FILES[1:])
    train(lambda: load_config(["seed=97"]), RunOptions(3, None), folders)
    assert json.loads((folders.models / "config.json").read_text())["run"]["seed"] == 97


def tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from tensors(value)


def test_a_diverged_run_without_a_checkpoint_says_so(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_each_step(monkeypatch, poison_before(0))
    with pytest.raises(DivergedError, match="last good checkpoint: none was written yet"):
        train_in(out)
    assert saved_steps(out) == []


def test_a_validation_loss_that_is_no_number_stops_too(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "validation_loss", lambda *_: HeldOutLoss(float("nan"), 0.0))
    with pytest.raises(DivergedError, match=r"step 5: the validation loss is nan \(measured on"):
        train_in(out)
    assert saved_steps(out) == [2, 4]


def test_a_stage_replaces_its_outputs_and_keeps_no_checkpoints(project: Path) -> None:
    put_outputs_of_an_earlier_run()
    folders = stage_folders()
    train(lambda: load_config(["seed=98"]), RunOptions(3, None), folders)
    for file in (*(folders.results / name for name in RESULT_FILES), *folders.models.iterdir()):
        assert b"earlier" not in file.read_bytes()
    metrics = json.loads((folders.results / "metrics.json").read_text())
    assert (metrics["step"], metrics["finished"]) == (3, True)
    assert not list(Path("data/checkpoints").glob("*/step-0000000[123]/state.pt"))


def test_a_run_in_progress_shows_its_own_numbers(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when another run was complete there."""
    monkeypatch.setattr(tracker, "WRITING_SHARE", float("inf"))
    train_in(out, "seed=3", early_stop_steps=1)
    shown = []

    def look(plan: StepPlan, _: GPT) -> None:
        if plan.step == 4:
            shown.append((out / "models").exists())
            shown.append(json.loads((out / "results/metrics.json").read_text())["finished"])
            shown.append(len(log_rows(out / "results/train.tsv")))
            shown.append(len((out / "results/plan.csv").read_text().splitlines()) - 1)

    before_each_step(monkeypatch, look)
    train_in(out, "tracking.write_every_seconds=0.000001")
    assert shown == [False, False, 4, 12]


def test_two_runs_at_once_in_one_folder_are_refused(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def second(plan: StepPlan, _: GPT) -> None:
        if plan.step == 1 and not refused:
            refused.append("")
            with pytest.raises(UserError, match="a run is already going here, in process"):
                train_in(out, "seed=4")

    before_each_step(monkeypatch, second)
    train_in(out)
    assert refused
    assert json.loads((out / "models/config.json").read_text())["run"]["seed"] != 4


def test_the_environment_is_recorded_in_the_runs_config(
    project: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = project / "data/shards"
    monkeypatch.setenv("DATA_PATH", str(store))
    train_in(
        out,
        "schedules.instant.micro_batch_tokens=384",
        early_stop_steps=2,
        slice_sequences=2,
    )
    assert f"DATA_PATH={store}: the shards are in {store / 'text'}" in capsys.readouterr().err
    run = json.loads((out / "models/config.json").read_text())["run"]
    assert (run["data_path"], run["slice_sequences"]) == (str(store), 2)
    assert run["environments"][0]["micro_batch_tokens"] == 256
    assert [row["tokens"] for row in log_rows(out / "results/train.tsv")] == ["384", "768"]
    usual = json.loads((project / "whole/models/config.json").read_text())["run"]
    assert (usual["data_path"], usual["slice_sequences"]) == ("", None)


def test_where_the_data_lie_is_no_part_of_the_run(
    project: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_in(monkeypatch, 3, out=out)
    monkeypatch.setenv("DATA_PATH", str(project / "data/shards"))
    train_in(out)
    assert result(out)["weights"] == result(project / "whole")["weights"]


def test_other_data_are_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_tiny_project(tmp_path)
    stop_in(monkeypatch, 2, out=Path("out"))
    write_documents(tmp_path / "data/shards/text/text_train_000001.bin", documents=31)
    adopt_store(tmp_path / "data/shards/text")
    train_in(Path("out"), early_stop_steps=1)
    assert len(list(Path("out/checkpoints").iterdir())) == 2


def test_the_manifest_of_another_dataset_is_refused(out: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"data/manifest.json: expected the selected dataset, 'docstrings', found 'text'; "
        r".*`dvc repro index`",
    ):
        train_in(out, "dataset=docstrings")
    assert not out.exists()


def test_aro_counts_the_rotations_it_kept(out: Path) -> None:
    train_in(out, "optimizer=aro", early_stop_steps=2)
    rows = log_rows(out / "results/train.tsv")
    assert all(row["kept_rotations"].isdigit() for row in rows)
    assert "kept_rotations" not in log_rows(Path("whole/results/train.tsv"))[0]
