"""Which code decides an output, compared with what Python itself imports."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ramengpt.errors import UserError
from ramengpt.source_code import (
    DERIVING_CONFIG,
    FREE,
    RULES_TABLE,
    code_of,
    decisive_text,
    is_free,
    stage_code,
)
from tests.conftest import ROOT

SOURCE = '''"""A module."""

import os  # for its path


def f(x):
    """A docstring,
    of two lines."""

    text = "# no comment"  # a comment: "ä"
    return os.path.join(x, text, """no docstring""")


class C:
    """Only a docstring."""


class D:
    x: int = 1
    """Of an attribute."""
'''


def test_an_import_of_a_module_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ramengpt").mkdir()
    (tmp_path / "ramengpt/there.py").write_text("import ramengpt\nfrom os import path\n")
    (tmp_path / "ramengpt/one.py").write_text("from ramengpt.there import a\n")
    assert list(code_of("ramengpt/one.py", None, tmp_path)) == [
        "ramengpt/one.py",
        "ramengpt/there.py",
    ]
    (tmp_path / "ramengpt/there.py").unlink()
    with pytest.raises(UserError, match=r"^ramengpt/there.py, which ramengpt/one.py imports"):
        code_of("ramengpt/one.py", None, tmp_path)


def test_what_is_left_is_the_same_program() -> None:
    left = decisive_text(SOURCE)
    assert "docstring," not in left and "comment:" not in left and "attribute" not in left
    assert '"# no comment"' in left and "no docstring" in left
    again = decisive_text(SOURCE.replace("A module.", "Ein Modul: ä.").replace("\n\n\n", "\n\n"))
    assert again == left

    def without_docstrings(source: str) -> str:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and (len(body) > 1 or isinstance(node, ast.Module)):
                node.body = [
                    item
                    for item in body
                    if not (
                        isinstance(item, ast.Expr)
                        and isinstance(item.value, ast.Constant)
                        and isinstance(item.value.value, str)
                    )
                ]
        return ast.dump(tree)

    for file in ROOT.glob("ramengpt/**/*.py"):
        source = file.read_text()
        assert ast.dump(ast.parse(decisive_text(source))) == without_docstrings(source), file


@pytest.mark.parametrize(
    ("old", "new"),
    [("return os", "return  os"), ("# no comment", "# a comment"), ("x: int = 1", "x: int = 2")],
)
def test_whatever_else_is_edited_counts(old: str, new: str) -> None:
    assert decisive_text(SOURCE.replace(old, new)) != decisive_text(SOURCE)


@pytest.mark.parametrize("text", ["a\n\nb", "a \nb", "a\n  \nb"])
@pytest.mark.parametrize("mark", ["", "f"])
def test_blanks_count_in_strings_and_not_in_docstrings(text: str, mark: str) -> None:
    def assigned(text: str) -> str:
        return decisive_text(f"x = {mark}'''{{y}}{text}'''\n\n\nz = 1\n")

    assert assigned(text) != assigned("a\nb")
    assert ast.dump(ast.parse(assigned(text))) != ast.dump(ast.parse(assigned("a\nb")))
    assert decisive_text(f"'''{text}'''\nx = 1\n") == decisive_text("'''c'''\nx = 1\n")


@pytest.mark.parametrize("stage", ["download", "verify", "index", "train", "sample"])
def test_a_stage_has_every_module_that_python_imports_for_it(stage: str) -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import pipeline.{stage}, sys, json;"
            "print(json.dumps([m.__file__ for n, m in sys.modules.items()"
            " if n.split('.')[0] in ('ramengpt', 'pipeline')]))",
        ],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    files = {Path(file).relative_to(ROOT).as_posix() for file in json.loads(loaded.stdout)}
    # Free files are not followed; what only they import may be no module that computes.
    # Outside of stage verify, verification only refuses shards that are not the manifest's.
    verification = "ramengpt/data/shards/verification.py"
    only_of_free = {"pipeline/__init__.py", verification, *DERIVING_CONFIG}
    missing = files - set(stage_code(stage, "normuon")) - only_of_free
    missing = {file for file in missing if not is_free(file)}
    rules = {file for file in missing if file.startswith("ramengpt/optimizers/")}
    assert missing - rules == set()
    assert verification in stage_code("verify", "normuon")
    assert rules <= set(code_of(RULES_TABLE)) | {RULES_TABLE}


def test_of_the_update_rules_only_the_selected_one_counts() -> None:
    normuon, aro = (set(stage_code("train", rule)) for rule in ("normuon", "aro"))
    folder = "ramengpt/optimizers"
    assert normuon - aro == {f"{folder}/normuon.py", f"{folder}/muon.py"} | (normuon - aro)
    assert aro - normuon == {
        f"{folder}/{name}.py" for name in ("aro", "cholesky_qr", "sinkhorn")
    }  # fmt: skip
    assert f"{folder}/bam.py" not in normuon | aro
    assert RULES_TABLE not in normuon | aro


def test_every_free_file_exists() -> None:
    assert [file for file in FREE if not (ROOT / file).is_file()] == []


def test_the_digest_is_of_the_text_and_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "ramengpt"
    folder.mkdir()
    (folder / "a.py").write_text("from ramengpt.b import c\n")
    (folder / "b.py").write_text("c = 1\n")
    before = code_of("ramengpt/a.py", root=tmp_path)
    assert list(before) == ["ramengpt/a.py", "ramengpt/b.py"]
    (folder / "b.py").write_text("# why\nc = 1\n")
    assert code_of("ramengpt/a.py", root=tmp_path) == before
    (folder / "b.py").write_text("c = 2\n")
    assert code_of("ramengpt/a.py", root=tmp_path)["ramengpt/b.py"] != before["ramengpt/b.py"]
