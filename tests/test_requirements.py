"""The lock file: exact versions of all that the project needs, and nothing about where from."""

import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from ruamel.yaml import YAML

from benchmarks.requirements import BEGIN, PAGE, closure, groups, normalised, page
from tests.conftest import ROOT

CUDA = ("nvidia-", "cuda-")
"""PyTorch's builds for CUDA install these, its builds for CPUs do not."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked() -> dict[str, Version]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()[1:]
    matches = [re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)", line) for line in lines]
    assert all(matches), "expected name==version alone"
    return {normalised(match[1]): Version(match[2]) for match in matches if match}


def test_every_requirement_is_locked_within_its_range() -> None:
    versions = locked()
    for text in itertools.chain(*groups().values()):
        requirement = Requirement(text)
        assert requirement.specifier.contains(versions[normalised(requirement.name)]), text


def test_the_lock_has_what_the_requirements_install_and_nothing_else() -> None:
    installed = closure(itertools.chain(*groups().values()))
    assert {name for name in installed if not name.startswith(CUDA)} == set(locked())


def test_uv_takes_the_locked_versions_of_what_decides_data_and_losses() -> None:
    docstrings = YAML(typ="safe").load(ROOT / "params.yaml")["datasets"]["docstrings"]
    deciding = sorted([*docstrings["packages"], "torch", "triton"])
    expected = [f"{name}=={locked()[normalised(name)]}" for name in deciding]
    assert PROJECT["tool"]["uv"]["constraint-dependencies"] == expected


def test_every_place_names_the_same_pythons() -> None:
    workflow = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "ci.yml")
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    oldest, newest = pythons[0], pythons[-1]
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    for file in (PAGE, ROOT / "README.md", ROOT / "docs" / "commands.md"):
        assert f"Python {oldest} to {newest}" in file.read_text(), file


@pytest.mark.parametrize("minor", range(9, 16))
def test_make_refuses_another_python(minor: int, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\nimport sys\nsys.version_info = (3, {minor}, 0)\nexec(sys.argv[2])\n"
    )
    python.chmod(0o755)
    command = ["make", "setup", f"PYTHON={python}", f"VENV={tmp_path}/venv"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stderr
    refusal = f"error: expected Python 3.11 to 3.13, found 3.{minor}; type, for example, make repro"
    assert said.startswith(refusal) == (minor not in (11, 12, 13))


def test_the_page_of_sources_and_licences_is_up_to_date() -> None:
    assert PAGE.read_text() == page(PAGE.read_text()), "run `python -m benchmarks.requirements`"
    cells = [line.split(" | ") for line in PAGE.read_text().partition(BEGIN)[2].splitlines()]
    rows = [row for row in cells if len(row) == 4][1:]
    assert len(rows) == len(locked()) and all(cell.strip(" |") for row in rows for cell in row)


def test_no_uv_lock_is_committed() -> None:
    assert "/uv.lock" in (ROOT / ".gitignore").read_text().splitlines()
