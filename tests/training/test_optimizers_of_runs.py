"""Every optimizer in a whole run that dies and resumes."""

from dataclasses import replace
from pathlib import Path

import pytest

from ramengpt.config import Config, load_config
from ramengpt.training.run import train
from ramengpt.training.session.settings import RunOptions
from tests.optimizers.models import OPTIMIZERS, PARAMS, optimizer_config
from tests.training.tiny_run import (
    before_each_step,
    folders_in,
    make_tiny_project,
    result,
    saved_steps,
)

STEPS = 4
SETTINGS = [
    f"schedules.instant.scheduled_steps={STEPS}",
    "schedules.instant.extension_steps=0",
    "schedules.instant.batch.micro_batches=[1, 1]",
    "train.checkpoint_every_steps=1",
    "validation.tokens=64",
]


class KilledError(BaseException):
    """Nothing handles it, so that what was saved before is all that is left."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("project")
        patch.chdir(folder)
        make_tiny_project(folder)
    return folder


@pytest.fixture(scope="module")
def shared(project: Path) -> Config:
    return load_config(SETTINGS, project / "params.yaml")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_dies_in_its_last_step_ends_as_if_it_had_not(
    project: Path, shared: Config, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("ramengpt.training.setup.stage_code", lambda *_: {"code": "the same"})
    often = {"basis": PARAMS["bases"]["covariances"] | {"every_steps": 2}}
    changes = often if "basis" in PARAMS["optimizers"][name] else {}
    config = replace(shared, optimizer_name=name, optimizer=optimizer_config(name, **changes))

    def run(place: Path) -> None:
        train(lambda: config, RunOptions(None, None), folders_in(place))

    def die(plan, _) -> None:
        if plan.step == STEPS - 1:
            raise KilledError

    run(tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        before_each_step(patch, die)
        run(tmp_path / "killed")
    assert saved_steps(tmp_path / "killed")[-1] == STEPS - 1
    run(tmp_path / "killed")
    assert result(tmp_path / "killed") == result(tmp_path / "whole")
    assert len(result(tmp_path / "whole")["train"]) == STEPS
