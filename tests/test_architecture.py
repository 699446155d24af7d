"""The shape of the project: imports run one way, heavy ones wait, dvc.yaml names what is used."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT
from tests.imports import (
    import_closure,
    imported_files,
    imported_names,
    module_name,
    project_files,
)

LAYERS = {
    "ramengpt.kernels": {"ramengpt.kernels"},
    "ramengpt.data": {"ramengpt.data"},
    "ramengpt.model": {"ramengpt.model", "ramengpt.kernels"},
    "ramengpt.optimizers": {"ramengpt.optimizers", "ramengpt.kernels"},
    "ramengpt.training": {
        "ramengpt.training",
        "ramengpt.inference",
        "ramengpt.data",
        "ramengpt.model",
        "ramengpt.optimizers",
        "ramengpt.kernels",
    },
    "ramengpt.inference": {
        "ramengpt.inference",
        "ramengpt.data",
        "ramengpt.model",
        "ramengpt.kernels",
    },
    "ramengpt.comparison": {"ramengpt.comparison", "ramengpt.training"},
    "ramengpt.config": {"ramengpt.config"},
    "ramengpt.device": set(),
}
LEAVES = {"ramengpt", "ramengpt.errors", "ramengpt.files", "ramengpt.progress", "ramengpt.cli"}
BELOW_ALL = {
    "ramengpt.data": {"ramengpt.config"},
    "ramengpt.model": {"ramengpt.config"},
    "ramengpt.optimizers": {"ramengpt.config"},
    "ramengpt.inference": {"ramengpt.config", "ramengpt.device"},
    "ramengpt.training": {"ramengpt.config", "ramengpt.device"},
}
# Whole programs that lie beside what they use; they may use everything.
PROGRAMS = {"ramengpt.model.summary"}


def package(module: str) -> str:
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("file", project_files("ramengpt"), ids=module_name)
def test_imports_run_one_way(file: Path) -> None:
    module = module_name(file)
    if module in LEAVES | PROGRAMS:
        return
    allowed = LAYERS[package(module)] | BELOW_ALL.get(package(module), set())
    for imported in map(module_name, imported_files(file)):
        assert imported in LEAVES or package(imported) in allowed, f"{module} imports {imported}"


def test_schedules_need_no_torch() -> None:
    for file in import_closure(ROOT / "ramengpt/training/schedule/plan.py"):
        assert "torch" not in imported_names(file), file


def test_only_tracking_imports_wandb_and_only_config_reads_yaml() -> None:
    for file in project_files("ramengpt", "pipeline"):
        names = {name.split(".")[0] for name in imported_names(file)}
        if "wandb" in names:
            assert file.is_relative_to(ROOT / "ramengpt/training/tracking"), file
        if names & {"yaml", "ruamel"}:
            assert file.is_relative_to(ROOT / "ramengpt/config"), file


@pytest.mark.parametrize("file", project_files("ramengpt", "pipeline"), ids=module_name)
def test_heavy_imports_stay_inside_what_uses_them(file: Path) -> None:
    heavy = {"datasets", "wandb", "dvc", "matplotlib", "pyarrow", "huggingface_hub", "ray"}
    names = {name.split(".")[0] for name in imported_names(file, top_level_only=True)}
    assert not names & heavy


@pytest.mark.parametrize("stage", ["download", "verify", "index", "train", "sample"])
def test_a_stage_depends_on_all_that_it_imports_and_nothing_else(stage: str) -> None:
    described = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    script = ROOT / "pipeline" / f"{stage}.py"
    code = [ROOT / dep for dep in described["deps"] if dep.startswith(("ramengpt", "pipeline"))]
    listed = {f for dep in code for f in ([dep] if dep.is_file() else dep.rglob("*.py"))}
    # Code of the configuration holds no values: those are the stage's params.
    free = {ROOT / "ramengpt/config"} if ROOT / "ramengpt/config" not in code else set()
    used = {
        file
        for file in import_closure(script)
        if file.read_text().count("\n") > 1
        and file.name not in ("cli.py", "errors.py", "progress.py")
        and not any(file.is_relative_to(folder) for folder in free)
    }
    missing = used - listed - {script}
    assert not missing, sorted(map(module_name, missing))
    unused = {dep for dep in code if dep.is_file()} - used - {script}
    assert not unused, sorted(map(module_name, unused))


@pytest.mark.parametrize("file", project_files("ramengpt", "pipeline"), ids=module_name)
def test_a_file_can_be_read_whole(file: Path) -> None:
    assert file.read_text().count("\n") <= 320
