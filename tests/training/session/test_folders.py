"""Where runs write."""

from pathlib import Path

import pytest

from ramengpt.errors import UserError
from ramengpt.training.session.folders import scratch_folders, stage_folders


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def test_checkpoints_of_a_queued_experiment_outlive_its_copy_of_the_project(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stage_folders().checkpoints == project / "data/checkpoints"
    monkeypatch.setenv("DVC_ROOT", "/main/checkout")
    assert stage_folders().checkpoints == Path("/main/checkout/data/checkpoints")
    assert stage_folders().models == Path("models")


def test_a_scratch_run_stays_in_its_folder(project: Path) -> None:
    for out in (project / "elsewhere", Path("runs/a"), Path("results/mine"), None):
        folders = scratch_folders(out)
        written = (folders.models, folders.results, folders.checkpoints, folders.wandb)
        own = out or folders.wandb
        assert all(folder.is_relative_to(own) for folder in written)
    assert scratch_folders(None).wandb.parent == Path("runs")


@pytest.mark.parametrize(
    "out",
    [
        *(".", "", "..", "/", "runs/..", "data", "data/mine", "models", "models/mine", "results"),
        "results/train",
    ],
)
def test_a_scratch_run_among_the_stages_outputs_is_refused(out: str, project: Path) -> None:
    (project / "runs").mkdir()
    with pytest.raises(UserError, match=r"--out: expected a folder of its own"):
        scratch_folders(Path(out))
