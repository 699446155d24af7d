"""The stage that comes before all others."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import pipeline.check
from pipeline.check import STAGES
from ramengpt.config import load_config
from ramengpt.config.base import ConfigError
from ramengpt.source_code import stage_code
from ramengpt.training.session.folders import stage_folders
from ramengpt.training.session.inputs import run_inputs
from ramengpt.training.session.lock import run_lock
from ramengpt.training.session.outputs import RESULT_FILES, shown_run, write_metrics
from ramengpt.training.session.settings import RunOptions
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("pipeline", "ramengpt"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["check"])
    return tmp_path


def code_of_all() -> dict[str, str]:
    pipeline.check.main()
    return {stage: Path(f"data/code/{stage}.json").read_text() for stage in STAGES}


def test_the_blocks_are_those_that_the_selected_optimizer_names(project: Path) -> None:
    code_of_all()
    blocks = json.loads(Path("data/optimizer_blocks.json").read_text())
    assert blocks.keys() == {"momentum", "polar"}
    edit(project / "params.yaml", "cushion: 0.02", "cushion: 0.03")
    edit(project / "params.yaml", "largest_side: 4096", "largest_side: 4097")
    code_of_all()
    changed = json.loads(Path("data/optimizer_blocks.json").read_text())
    blocks["polar"]["cushion"] = 0.03
    assert changed == blocks, "the basis is not of this optimizer"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_each_stage_has_its_own_code(project: Path) -> None:
    written = code_of_all()
    assert json.loads(written["train"]) == stage_code("train", "normuon", project)
    assert "ramengpt/inference/decoding.py" in written["sample"]
    assert "ramengpt/inference/decoding.py" not in written["train"]


def test_the_code_is_that_of_the_selected_rule(project: Path) -> None:
    before = code_of_all()
    edit(project / "ramengpt/optimizers/bam.py", "\n\n\n", "\n\n\nUNUSED = 1\n\n\n")
    assert code_of_all() == before
    edit(project / "params.yaml", "\noptimizer: normuon", "\noptimizer: bam")
    after = code_of_all()
    assert [stage for stage in STAGES if after[stage] != before[stage]] == ["train"]
    assert "ramengpt/optimizers/bam.py" in after["train"]


def test_a_wrong_value_is_refused(project: Path) -> None:
    edit(project / "params.yaml", "\nseed: ", "\nsed: 1\nseed: ")
    with pytest.raises(ConfigError, match="sed: unknown key"):
        pipeline.check.main()
    assert not (project / "data/code").exists()


def test_the_folder_for_text_is_kept_whatever_params_say(project: Path) -> None:
    edit(project / "params.yaml", "\nseed: ", "\nsed: 1\nseed: ")
    with pytest.raises(ConfigError):
        pipeline.check.main()
    kept = "data/text/.gitkeep"
    assert (project / kept).read_bytes() == (ROOT / kept).read_bytes(), "git sees no change"


def test_numbers_of_other_inputs_are_withdrawn_and_others_stay(project: Path) -> None:
    folders = stage_folders()
    code = stage_code("train", "normuon", project)
    name = run_inputs(load_config(), RunOptions(None, None), code, []).name()
    write_metrics(folders.results, {"run": name, "step": 4}, finished=True)
    edit(project / "params.yaml", "temperature: 0.8", "temperature: 0.7")
    pipeline.check.main()
    assert shown_run(folders.results) == name
    edit(project / "params.yaml", "\nseed: ", "\nseed: 4")
    with run_lock(folders.lock, wait=False):
        pipeline.check.main()
    assert shown_run(folders.results) == name, "of a run that is going on"
    pipeline.check.main()
    assert shown_run(folders.results) is None
    assert {file.name for file in folders.results.iterdir()} == set(RESULT_FILES)
