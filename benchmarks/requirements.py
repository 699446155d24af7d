"""Sources and licences of everything that is installed: docs/requirements.md, by its metadata.

    python -m benchmarks.requirements

It describes the versions of requirements.lock, which must be installed.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distribution, metadata
from typing import Any

from packaging.requirements import Requirement

from benchmarks.generated_page import rewrite, with_table
from ramengpt.source_code import ROOT

PAGE = ROOT / "docs" / "requirements.md"
BEGIN = "<!-- begin: python -m benchmarks.requirements -->\n"
SOURCE_LABELS = ("source", "source code", "repository", "github", "code", "homepage", "home")
REGISTRY = re.compile(r"://([\w-]+\.)*pypi\.", re.IGNORECASE)


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def groups() -> dict[str, list[str]]:
    """Requirements of pyproject.toml: the package's own, its extras, and what development takes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {
        "ramengpt": project["project"]["dependencies"],
        **project["project"]["optional-dependencies"],
        "development": project["dependency-groups"]["dev"],
    }


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of what some requirements install, by the metadata of what is installed."""
    found: set[tuple[str, str]] = set()
    pending = [(Requirement(text), "") for text in requirements]
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = normalised(requirement.name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in found:
                found.add((name, wanted))
                needed = distribution(name).requires or ()
                pending += [(Requirement(text), wanted) for text in needed]
    return {name for name, _ in found}


def licence_of(about: Mapping[str, Any]) -> str:
    """As the package states it: an SPDX expression, a short name, or the classifiers."""
    written = (about.get("license_expression") or about.get("license") or "").strip()
    if written:
        return written.splitlines()[0]  # some quote the whole text, which opens with its name
    classifiers = about.get("classifier", [])
    names = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    return ", ".join(names)


def source_of(about: Mapping[str, Any]) -> str:
    """Where its source or its home is."""
    pairs = [line.partition(", ") for line in about.get("project_url", [])]
    links = {label.strip().lower(): link for label, _, link in pairs}
    links.setdefault("home", about.get("home_page", ""))
    found = [links[label] for label in SOURCE_LABELS if label in links] + list(links.values())
    return next((link for link in found if link and not REGISTRY.search(link)), "not stated")


def locked_names() -> list[str]:
    """Names, as the lock spells them."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line.partition("==")[0] for line in lines if not line.startswith("#")]


def rows() -> Iterator[str]:
    """The table's lines."""
    installed_by = {group: closure(requirements) for group, requirements in groups().items()}
    yield "| package | licence | source | for |\n|---|---|---|---|\n"
    for name in locked_names():
        about = metadata(name).json
        used = [group for group, names in installed_by.items() if normalised(name) in names]
        shown = "all" if "ramengpt" in used else ", ".join(used)
        cells = (name, licence_of(about), source_of(about), shown)
        yield f"| {' | '.join(cell.replace('|', 'or') for cell in cells)} |\n"


def page(before: str) -> str:
    """The page with a new table."""
    return with_table(before, BEGIN, rows())


if __name__ == "__main__":
    rewrite(PAGE, page, __doc__)
