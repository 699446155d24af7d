"""`ramengpt NAME` is `python -m` of a module: the same help, the same errors."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ramengpt import commands
from ramengpt.commands import COMMANDS, help_text, summary_of
from ramengpt.errors import UserError
from tests.conftest import ROOT


def ramengpt(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the project's folder."""
    return subprocess.run(
        [sys.executable, "-m", "ramengpt.commands", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_installed_script_is_this_one() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["ramengpt"].partition(":")
    assert module == commands.__name__ and callable(getattr(commands, function))


def test_the_installed_script_runs_the_code_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "ramengpt").mkdir()
    (tmp_path / "ramengpt/commands.py").write_text("import sys\nprint('mine', *sys.argv[1:])\n")
    script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from ramengpt import commands"
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{script}; commands.entry()", ROOT, "train", "--plan"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("mine train --plan\n", "")


def test_help_shows_every_command_with_what_it_does() -> None:
    text = help_text()
    for name in COMMANDS:
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
        assert len(line.split()) > 3, line


def test_a_command_runs_its_module_with_its_arguments() -> None:
    plan = ramengpt("train", "--plan", "--early_stop_steps", "2")
    assert plan.returncode == 0 and "2 steps, 4,096 tokens" in plan.stdout
    wrong = ramengpt("train", "--early_stop_steps", "0")
    assert wrong.returncode == 1
    assert wrong.stderr == "error: --early_stop_steps: expected at least 1, found 0\n"


def test_an_unknown_command_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ramengpt", "trian"])
    with pytest.raises(UserError, match="no command 'trian'"):
        commands.main()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("short", [True, False])
def test_every_command_has_help_under_the_name_it_was_called_by(
    name: str,
    short: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = COMMANDS[name]
    called = f"ramengpt {name}" if short else f"python -m {module.removesuffix('.__main__')}"
    monkeypatch.setattr(sys, "argv", [called if short else "module.py"])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(module).parser().parse_args(["--help"])
    assert end.value.code == 0
    usage, *paragraphs = capsys.readouterr().out.split("\n\n")
    assert usage.startswith(f"usage: {called} [-h]")
    assert paragraphs[0].replace("\n", " ") == summary_of(module)
