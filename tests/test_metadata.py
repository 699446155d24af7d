"""What pyproject.toml, CITATION.cff and the changelog say of the project agrees."""

import re
import tomllib

from ruamel.yaml import YAML

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text())


def test_all_name_the_same_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[([\d.]+)\]", changelog, re.M)
    assert newest and PROJECT["version"] == CITATION["version"] == newest[1]


def test_the_citation_has_what_its_format_requires_and_says_what_the_package_says() -> None:
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()
    assert (CITATION["title"], CITATION["license"]) == (PROJECT["name"], PROJECT["license"])
    assert [each["name"] for each in CITATION["authors"]] == [
        each["name"] for each in PROJECT["authors"]
    ]
    assert CITATION["abstract"].startswith(PROJECT["description"].removesuffix("."))
