"""Shells complete commands, flags and files."""

import subprocess
import sys

import pytest

from ramengpt.commands import COMMANDS
from ramengpt.completion import completion, parser
from ramengpt.errors import UserError
from tests.conftest import ROOT

COMPLETE = """
{script}
complete_line() {{
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    eval "set -- $(complete -p ramengpt)"
    while [ "$1" != -F ]; do shift; done
    "$2" ramengpt "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"
    echo "${{COMPREPLY[@]}}"
}}
complete_line ramengpt tr
complete_line ramengpt train --early
complete_line ramengpt share pu
complete_line ramengpt evaluate --weights READ
"""


def test_bash_completes_commands_flags_and_files() -> None:
    script = COMPLETE.format(script=completion("bash"))
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    expected = ["train", "--early_stop_steps", "push pull", "README.md"]
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_of_every_command_and_flag(shell: str) -> None:
    script = completion(shell)
    for name in (*COMMANDS, "push", "early_stop_steps", "include_path"):
        assert name in script


def test_an_unknown_shell_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ramengpt completion", "csh"])
    expected = r"invalid choice: 'csh' .*\(ramengpt completion --help lists the flags\)$"
    with pytest.raises(UserError, match=expected):
        parser().parse_args()
