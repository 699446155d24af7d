"""README and docs/ speak of what exists: commands, flags, parameters, links, files, suffixes."""

import argparse
import ast
import importlib
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ramengpt.commands import COMMANDS as SHORT
from ramengpt.config import load_config
from ramengpt.data.shards.store import locate_store
from ramengpt.errors import UserError
from ramengpt.training.session.folders import stage_folders
from tests.conftest import ROOT
from tests.imports import project_files

PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")),
        *(ROOT / "docs").glob("*.md"),
    ]
)
PROGRAMS = ("dvc", "git", "make", "python", "ramengpt", "uv", "cd", "docker", "source")
INVENTED = {"docs/adding_an_optimizer.md": "lion"}
"""Entries of params.yaml that a page tells the reader to make."""


class ParsedError(Exception):
    """Stops a program once it has read its command line."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands_of(page: Path) -> Iterator[str]:
    """Every command line in blocks, and in running text those that start like one."""
    text = page.read_text()
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language in ("bash", "sh", "console"):
            yield from re.sub(r"\\\n\s*", " ", block).splitlines()
        elif not language:
            yield from re.findall(r"^(?:python -m|dvc|make) .*", block, re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", prose):
        command = " ".join(span.split())
        if re.match(r"(python -m|ramengpt|dvc|make|uv) [\w-]", command) and "<" not in command:
            yield from command.split(" && ")


COMMANDS = [
    pytest.param(page, words, id=f"{page.stem}: {shlex.join(words)}")
    for page in PAGES
    for words in dict.fromkeys(tuple(shlex.split(c, comments=True)) for c in commands_of(page))
    if words
]


def settings_of(words: tuple[str, ...]) -> list[list[str]]:
    """The settings of -S and --set; a list of values for an experiment is one set for each."""
    pairs = [b for a, b in itertools.pairwise(words) if a in ("-S", "--set", "--set-param")]
    choices = []
    for key, _, value in (pair.partition("=") for pair in pairs):
        choices.append([f"{key}={each}" for each in value.split(",")])
    return [list(chosen) for chosen in itertools.product(*choices)] if pairs else []


def parse_python(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a module of the project read its command line, and stop it there."""
    assert words[1] == "-m" and words[2].split(".")[0] in ("pipeline", "ramengpt", "benchmarks")
    name = words[2]
    folder = ROOT.joinpath(*name.split("."))
    module = importlib.import_module(f"{name}.__main__" if folder.is_dir() else name)
    monkeypatch.setattr(sys, "argv", [name, *words[3:]])
    parse = argparse.ArgumentParser.parse_known_args

    def parse_and_stop(parser, args=None, namespace=None):
        _, unknown = parse(parser, args, namespace)
        assert not unknown, f"{name} does not know {unknown}"
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_and_stop)
    if "parse_args" not in Path(str(module.__file__)).read_text():
        assert not words[3:], f"{name} takes no arguments"
        return
    with pytest.raises(ParsedError):
        module.main()


def parse(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that a command exists and takes these arguments."""
    while "=" in words[0]:
        words = words[1:]
    assert words[0] in PROGRAMS, f"unknown program {words[0]}"
    if words[:2] == ("uv", "run"):
        words = words[2:]
    if words[0] == "dvc":
        from dvc.cli import parse_args
        from dvc.cli.parser import DvcParser

        def refuse(parser: object, message: str, cmd_cls: object = None) -> None:
            raise AssertionError(message)

        monkeypatch.setattr(DvcParser, "error", refuse)
        parse_args(list(words[1:]))
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        for target in words[1:]:
            assert re.fullmatch(r"PYTHON=python3\.\d+", target) or re.search(
                rf"^{re.escape(target)}:", makefile, re.MULTILINE
            ), target
    elif words[0] == "ramengpt":
        assert words[1] in (*SHORT, "--help")
        if words[-1] != "--help":
            module = SHORT[words[1]].removesuffix(".__main__")
            parse_python(("python", "-m", module, *words[2:]), monkeypatch)
    elif words[0] == "python":
        parse_python(words, monkeypatch)


@pytest.mark.parametrize(("page", "words"), COMMANDS)
def test_a_command_exists_and_parses(page, words, monkeypatch, capsys) -> None:
    try:
        parse(words, monkeypatch)
    except SystemExit as ended:
        pytest.fail(f"{shlex.join(words)}: exit {ended.code}: {capsys.readouterr().err}")
    invented = INVENTED.get(name_of(page))
    for settings in settings_of(words):
        if not (invented and any(invented in setting for setting in settings)):
            load_config(settings, ROOT / "params.yaml")


@pytest.mark.parametrize(
    "command",
    [
        "python -m pipeline.train --sed 1 --nonsense",
        "python -m pipeline.sample --prompt x",
        "python -m pipeline.generate",
        "ramengpt generate --nonsense",
        "ramengpt make",
        "make everything",
        "dvc exp fly",
        "dvc exp show --only-new",
        "torchrun train.py",
    ],
)
def test_a_wrong_command_is_found(command, monkeypatch) -> None:
    with pytest.raises((SystemExit, AssertionError, ImportError, UserError)):
        parse(tuple(command.split()), monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, fragment = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        linked = (page.parent / path) if path else page
        assert linked.exists(), f"{target}: no such file"
        assert linked.is_relative_to(ROOT)
        if fragment:
            headings = re.findall(r"^#+ (.*)", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
            assert fragment in anchors, f"{target}: no such heading"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_no_page_knows_the_machine_it_was_written_on(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"(?<![\w.~/-])/(?:home|root|work|tmp|mnt|opt|usr|Users)/\S*", text)
    assert not re.findall(r"file://|\b\d+\.\d+\.\d+\.\d+\b|\w+\.(?:internal|local)\b", text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_folders_that_a_page_names_exist(page: Path) -> None:
    for path in re.findall(
        r"(?<![\w./-])(?:ramengpt|pipeline|tests|benchmarks)/[\w./]*\w/?", page.read_text()
    ):
        assert "lion" in path or (ROOT / path).exists(), path


def folders_of(folder: str) -> set[str]:
    packages = {file.parent for file in project_files(folder)}
    return {str(package.relative_to(ROOT)) for package in packages}


def test_the_map_has_every_folder_and_nothing_else() -> None:
    text = (ROOT / "docs/architecture.md").read_text().partition("## Where things are")[2]
    shown: set[str] = set()
    parents: list[str] = []
    for line in text.split("```")[1].strip().splitlines():
        indent, names = re.match(r"( *)(\S+(?: {1,2}\S+\.\w+)*)", line).groups()
        parents = parents[: len(indent) // 2]
        for name in names.split():
            path = "/".join([*parents, name.rstrip("/")])
            assert (ROOT / path).is_dir() if name.endswith("/") else (ROOT / path).is_file(), path
            shown.add(path)
        parents.append(names.rstrip("/"))
    for folder in ("ramengpt", "pipeline", "benchmarks"):
        missing = folders_of(folder) - shown
        assert not missing, missing


def test_the_page_of_the_architecture_names_the_stages_in_their_order() -> None:
    stages = list(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"])
    text = (ROOT / "docs/architecture.md").read_text()
    assert " ──> ".join(stages) in text
    assert f"one file per stage: {' '.join(stages)}" in text
    assert {path.stem for path in (ROOT / "pipeline").glob("[a-z]*.py")} == set(stages)


def test_the_index_of_docs_links_to_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\((\w+\.md)\)", index)) == pages


def test_continuous_integration_runs_what_everyone_can() -> None:
    workflow = YAML(typ="safe").load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert steps[-1] == {"run": "bash .ci/run"}
    assert (ROOT / ".ci/run").read_text().splitlines()[-2:] == ["make check", "make test"]


def test_the_reading_order_takes_an_hour() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    order = text.partition("## An hour's reading")[2].partition("\n## ")[0]
    files = re.findall(r"`([\w/]+\.(?:py|yaml))`", order)
    read = [ROOT / file for file in files if file != "params.yaml"]
    assert len(read) > 15
    assert sum(file.read_text().count("\n") for file in read) <= 60 * 45


def test_the_page_of_data_names_all_that_lies_there_and_git_ignores_the_rest() -> None:
    text = (ROOT / "data/README.md").read_text()
    named = {path.split("/")[0] for path in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)}
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"].values()
    outs = {
        str(next(iter(out)) if isinstance(out, dict) else out) for s in stages for out in s["outs"]
    }
    made = {out.split("/")[1] for out in outs if out.startswith("data/")}
    own = {"text", locate_store("x", {}).folder.parent.name, stage_folders().checkpoints.name}
    assert named == made | own
    git = [
        "git",
        "check-ignore",
        *(f"data/{name}/any" for name in sorted(named)),
        "data/README.md",
        "data/text/.gitkeep",
    ]
    ignored = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert {path.split("/")[1] for path in ignored} == named


def glossary() -> dict[str, dict[str, str]]:
    """Each letter of docs/architecture.md with its meaning in each folder."""
    lines = re.findall(
        r"^\| ?([A-Z]?) ?\|(.*)\|$", (ROOT / "docs/architecture.md").read_text(), re.M
    )
    folders = [re.findall(r"\w+", cell) for cell in lines[0][1].split("|")]
    table = {}
    for letter, cells in lines[1:]:
        meanings = [cell.strip() for cell in cells.split("|")]
        table[letter] = {f: m for each, m in zip(folders, meanings, strict=True) for f in each}
    return table


@pytest.mark.parametrize("folder", ["data", "model", "training", "kernels", "optimizers"])
def test_every_suffix_of_a_tensor_is_in_the_glossary(folder: str) -> None:
    meanings = glossary()
    for file in project_files(f"ramengpt/{folder}"):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        names = {n.id for n in nodes if isinstance(n, ast.Name)}
        names |= {n.arg for n in nodes if isinstance(n, ast.arg)}
        for name in names:
            suffix = re.fullmatch(r"[a-z]\w*?_([A-Z][A-Z0-9]*)", name)
            for letter in re.sub(r"\d", "", suffix[1]) if suffix else "":
                assert meanings.get(letter, {}).get(folder), f"{file.name}: {name}: {letter}"
