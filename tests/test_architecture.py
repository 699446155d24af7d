"""The shape of the project: imports run one way, heavy ones wait, dvc.yaml names what is used."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.check import CODE_FOLDER, STAGES, TEXT_FOLDER_FILE
from ramengpt.config.load import ParamsFile, load_config
from ramengpt.config.optimizer_blocks import SHARED_BLOCKS
from ramengpt.source_code import PACKAGES
from ramengpt.training.session.inputs import CHECKED_BLOCKS
from ramengpt.training.session.settings import FREE_SECTIONS, RunOptions, run_settings
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
LEAVES = {
    "ramengpt",
    "ramengpt.errors",
    "ramengpt.files",
    "ramengpt.host",
    "ramengpt.progress",
    "ramengpt.cli",
    "ramengpt.commands",
    "ramengpt.completion",
    "ramengpt.source_code",
}
BELOW_ALL = {
    "ramengpt.data": {"ramengpt.config"},
    "ramengpt.model": {"ramengpt.config"},
    "ramengpt.optimizers": {"ramengpt.config"},
    "ramengpt.inference": {"ramengpt.config", "ramengpt.device"},
    "ramengpt.training": {"ramengpt.config", "ramengpt.device"},
}
# Whole programs that lie beside what they use; they may use everything.
PROGRAMS = {"ramengpt.model.summary"}
# Parts of one operation, tested through it: against its reference, on every path.
TESTED_ELSEWHERE = {
    "ramengpt.kernels.head.plain": "tests/kernels/head/test_softcapped_cross_entropy.py",
    "ramengpt.kernels.head.cuda": "tests/kernels/head/test_softcapped_cross_entropy.py",
    "ramengpt.kernels.head.float8": "tests/kernels/head/test_softcapped_cross_entropy.py",
    "ramengpt.kernels.head.persistent": "tests/kernels/head/test_softcapped_cross_entropy.py",
    "ramengpt.kernels.head.triton_kernels": "tests/kernels/head/test_softcapped_cross_entropy.py",
    "ramengpt.kernels.qkv_prologue_triton": "tests/kernels/test_qkv_prologue.py",
    "ramengpt.kernels.relu_squared_mlp_persistent": "tests/kernels/test_relu_squared_mlp.py",
    "ramengpt.training.saved_state": "tests/training/test_setup.py",
}


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


def test_imports_have_no_circles() -> None:
    modules = {module_name(file): file for file in project_files("ramengpt", "pipeline")}
    graph = {}
    for module, file in modules.items():
        names = imported_names(file)
        only_parents = {name.rpartition(".")[0] for name in names & modules.keys()}
        only_parents -= {name.rpartition(".")[0] for name in names - modules.keys()}
        graph[module] = (names & modules.keys()) - only_parents
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert len(order) == len(modules) > 100


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


def dvc_stages() -> dict[str, Any]:
    stages: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    return stages


def test_the_first_stage_sees_every_edit_and_writes_the_code_of_the_others() -> None:
    check, *others = dvc_stages()
    assert (check, others) == ("check", list(STAGES))
    assert dvc_stages()["check"]["deps"] == ["params.yaml", *PACKAGES[::-1]]
    assert dvc_stages()["check"]["outs"] == [
        *(f"{CODE_FOLDER}/{stage}.json" for stage in others),
        str(CHECKED_BLOCKS),
        {str(TEXT_FOLDER_FILE): {"cache": False}},
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_own_code_alone(stage: str) -> None:
    deps = dvc_stages()[stage]["deps"]
    assert [dep for dep in deps if dep.startswith(("ramengpt", "pipeline", str(CODE_FOLDER)))] == [
        f"{CODE_FOLDER}/{stage}.json"
    ]


def test_no_output_persists() -> None:
    """One that does never enters the run cache: the same experiment twice would train twice."""
    for stage in dvc_stages().values():
        for out in (*stage["outs"], *stage.get("metrics", ())):
            assert isinstance(out, str) or "persist" not in str(out)


def test_training_depends_on_the_values_that_decide_a_run() -> None:
    listed = {name.split(".${")[0] for name in dvc_stages()["train"]["params"]}
    deciding = run_settings(load_config(), RunOptions(None, None))
    sections = set(ParamsFile.model_fields) - FREE_SECTIONS - {"datasets", "train"}
    assert str(CHECKED_BLOCKS) in dvc_stages()["train"]["deps"]
    sections -= set(SHARED_BLOCKS.values())
    assert listed == sections | {f"train.{key}" for key in deciding["train"]}


@pytest.mark.parametrize("file", project_files("ramengpt", "pipeline"), ids=module_name)
def test_a_file_can_be_read_whole(file: Path) -> None:
    assert file.read_text().count("\n") <= 320


def own_test(module: str) -> str:
    """Where the tests of a module lie: tests/ mirrors ramengpt/ and pipeline/."""
    *folders, name = module.removeprefix("ramengpt.").split(".")
    return "/".join(["tests", *folders, f"test_{name.strip('_')}.py"])


def has_logic(file: Path) -> bool:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, functions) for node in ast.walk(ast.parse(file.read_text())))


@pytest.mark.parametrize(
    "file", [f for f in project_files("ramengpt", "pipeline") if has_logic(f)], ids=module_name
)
def test_every_module_has_a_test_of_its_name(file: Path) -> None:
    own, elsewhere = own_test(module_name(file)), TESTED_ELSEWHERE.get(module_name(file))
    if elsewhere is None:
        assert (ROOT / own).is_file(), f"{own} is missing"
    else:
        assert (ROOT / elsewhere).is_file(), f"{elsewhere} is gone"
        assert not (ROOT / own).is_file(), f"{own} exists: take it off TESTED_ELSEWHERE"


def test_what_is_tested_elsewhere_exists() -> None:
    modules = set(map(module_name, project_files("ramengpt", "pipeline")))
    assert not TESTED_ELSEWHERE.keys() - modules
