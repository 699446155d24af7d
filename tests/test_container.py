"""The Dockerfile: a supported Python, torch and CUDA from the lock, and README's commands."""

import re
import subprocess
import tomllib

from packaging.specifiers import SpecifierSet
from ruamel.yaml import YAML

from tests.conftest import ROOT
from tests.test_requirements import locked


def instructions() -> list[tuple[str, str]]:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return [
        (name, rest)
        for name, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")
    ]


def test_its_python_is_one_that_is_tested_and_comes_with_headers_and_a_compiler() -> None:
    (base,) = [rest for name, rest in instructions() if name == "FROM"]
    match = re.fullmatch(r"python:(\d+\.\d+)-[a-z]+", base)
    assert match and "slim" not in base and "alpine" not in base
    workflow = YAML(typ="safe").load((ROOT / ".github/workflows/ci.yml").read_text())
    assert match[1] in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"{match[1]}.0" in SpecifierSet(project["requires-python"])


def test_only_the_lock_decides_which_torch_and_cuda_it_has() -> None:
    text = "\n".join(f"{name} {rest}" for name, rest in instructions())
    assert not re.search(r"torch|cuda|pip install|requirements", text, re.IGNORECASE)
    assert "torch" in locked() and "triton" in locked()
    makefile = (ROOT / "Makefile").read_text()
    setup = makefile.partition("$(INSTALLED): ")[2].partition("\n\n")[0]
    assert setup.startswith("requirements.lock") and "-r requirements.lock" in setup


def test_it_runs_what_the_readme_says_in_a_copy_of_all_files() -> None:
    kinds = dict(instructions())
    assert kinds["COPY"] == ". ." and kinds["RUN"] == "make setup"
    assert kinds["CMD"] == '["make", "repro"]'
    assert "\nmake repro " in (ROOT / "README.md").read_text()
    place = kinds["WORKDIR"]
    assert kinds["ENV"] == f"PATH={place}/.venv/bin:$PATH"
    workflow = YAML(typ="safe").load((ROOT / ".github/workflows/ci.yml").read_text())
    commands = [step.get("run") for step in workflow["jobs"]["image"]["steps"]]
    assert commands[1:] == ["docker build -t ramengpt .", "docker run ramengpt"]
    assert f"-v ramengpt:{place} ramengpt" in (ROOT / "docs/commands.md").read_text()


def test_what_the_image_leaves_out_is_what_git_ignores() -> None:
    left_out = (ROOT / ".dockerignore").read_text().split()
    files = [f"{path}/any" for path in left_out]
    git = ["git", "check-ignore", *files]
    ignored = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ignored.split() == files
    assert ".venv" in left_out and ".git" not in left_out
