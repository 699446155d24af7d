import base64
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.comparison.project import make_project, run

SVG = "{http://www.w3.org/2000/svg}svg"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return make_project(tmp_path_factory.mktemp("compare") / "project")


def compare(project: Path, *revisions: str):
    return run(project, sys.executable, "-m", "ramengpt.comparison", *revisions)


def test_a_commit_an_experiment_and_the_workspace_on_one_page_that_needs_no_other_file(project):
    done = compare(project, "HEAD", "with-adam", "workspace", "HEAD")
    assert done.returncode == 0, done.stderr
    markdown = (project / "results/compare.md").read_text()
    assert markdown.startswith("# HEAD · with-adam · workspace\n")
    assert "| HEAD | 4.1282 | - |" in markdown
    assert "| with-adam | 4.3485 | +0.2203 |" in markdown
    assert "| optimizer | normuon | adam | adam |" in markdown
    assert "| optimizers.*.lr | 0.02 | 0.015 | 0.015 |" in markdown
    linked = re.findall(r"\]\((.*\.svg)\)", markdown)
    assert len(linked) == 3
    for path in linked:
        assert ElementTree.parse(project / "results" / path).getroot().tag == SVG
    page = (project / "results/compare.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 3
    for source in sources:
        kind, content = source.split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(content)).tag == SVG
    assert "4.3485" in page and "+0.2203" in page


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("nowhere", "no such revision or experiment"),
        ("untrained", "(it has no dvc.lock); `dvc repro`"),
    ],
)
def test_what_cannot_be_compared_is_one_line(project, revision, message):
    done = compare(project, "HEAD", revision)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert revision in done.stderr and message in done.stderr


def test_a_damaged_table_is_one_line(project):
    path = project / "results/train/validation.tsv"
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-10] + b"\tsurplus\n")
    done = compare(project, "workspace")
    assert done.returncode == 1
    assert "workspace: results/train/validation.tsv is no table of losses" in done.stderr
    assert done.stderr.count("\n") == 1


def test_outside_a_project_there_is_one_line(tmp_path):
    done = compare(tmp_path, "HEAD")
    assert done.returncode == 1
    assert done.stderr.startswith("error: HEAD: ") and done.stderr.count("\n") == 1
