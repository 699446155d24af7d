"""The lock file: exact versions of all that the project needs, and nothing about where from."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.version import Version

from ramengpt.config import load_config
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked() -> dict[str, Version]:
    versions = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)", line)
        assert match, f"expected name==version alone, found {line!r}"
        versions[normalised(match[1])] = Version(match[2])
    return versions


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_locked_within_its_range() -> None:
    versions = locked()
    requirements = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    for text in requirements:
        requirement = Requirement(text)
        assert requirement.specifier.contains(versions[normalised(requirement.name)]), text


def test_uv_takes_the_locked_torch_and_makes_the_same_default_data() -> None:
    """The docstrings of these packages are the data; `make` installs the locked ones."""
    packages = [*load_config().dataset.packages, "torch"]
    constraints = [f"{package}=={locked()[normalised(package)]}" for package in packages]
    assert PROJECT["tool"]["uv"]["constraint-dependencies"] == constraints


def test_no_uv_lock_is_committed() -> None:
    assert "/uv.lock" in (ROOT / ".gitignore").read_text().splitlines()
