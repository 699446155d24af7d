"""params.yaml as DVC writes it back: `-S` changes its line and nothing else."""

import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from tests.conftest import ROOT

PARAMS = ROOT / "params.yaml"


@pytest.mark.parametrize(
    "override",
    ["seed=4321", "optimizer=muon", "optimizers.muon.learning_rate=0.03", "sample.top_k=7"],
)
def test_setting_a_value_changes_one_line(override: str, tmp_path: Path) -> None:
    copy = tmp_path / "params.yaml"
    shutil.copy(PARAMS, copy)
    apply_overrides(str(copy), [override])
    before, after = (path.read_text().splitlines() for path in (PARAMS, copy))
    changed = [line for line, other in zip(before, after, strict=True) if line != other]
    key = override.split("=", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1]
    assert len(changed) == 1 and changed[0].strip().startswith(f"{key}: ")
