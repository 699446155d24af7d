"""Every command ends in an exit status and at most one line."""

import errno
import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ramengpt.cli import run_main
from ramengpt.errors import UserError
from tests.conftest import ROOT


def test_a_users_error_is_one_line(capsys) -> None:
    def main() -> None:
        raise UserError("data/x.txt: no such file; put it there")

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: data/x.txt: no such file; put it there\n"


def test_ctrl_c_ends_with_the_status_that_shells_expect(capsys) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == 130
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_of_the_program_keeps_its_traceback() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_main(main)


def run_python(body: str, redirection: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a program whose main function has this body, as a shell would with a redirection."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom ramengpt.cli import run_main\n"
        f"def main():\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        f"run_main(main, {', '.join(flags)})\n"
    )
    script = f'"$0" -c "$1" {redirection}'
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}", sys.executable, program],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize(
    "redirection",
    [">/dev/full", "2>/dev/full", ">&-", "2>&-", ">&- 2>&-", "| true", "2>&1 | true"],
)
def test_work_whose_output_is_optional_ends_right_without_it(
    tmp_path: Path, redirection: str
) -> None:
    body = f"""
        for number in range(30_000):
            print(number)
            print(number, file=sys.stderr)
        sys.stdout.flush()
        Path({str(tmp_path / "done")!r}).touch()
    """
    ended = run_python(body, redirection, "output_is_optional=True")
    assert ended.returncode == 0, ended.stderr[-300:]
    assert (tmp_path / "done").exists()
    assert "Traceback" not in ended.stderr


def test_what_exists_to_print_fails_when_it_cannot() -> None:
    full = run_python("print('x')", ">/dev/full")
    assert full.returncode == 1
    assert full.stderr == (
        "error: the output: No space left on device; "
        "make room there, then run the same command again\n"
    )
    gone = run_python("for _ in range(30_000): print('x' * 80)", "| true")
    assert gone.returncode == 141
    assert gone.stderr == ""


@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOENT, errno.EEXIST, errno.EMFILE],
)
def test_an_error_about_a_file_names_it(number: int, capsys) -> None:
    def main() -> None:
        raise OSError(number, os.strerror(number), "results/in\ndex")

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: results/in\\ndex: {os.strerror(number)}; ")
    assert said.count("\n") == 1


def test_too_many_open_files_are_not_the_outputs_fault(capsys) -> None:
    def main() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with pytest.raises(SystemExit):
        run_main(main)
    assert capsys.readouterr().err.startswith("error: this process: Too many open files; raise")


def test_a_current_folder_that_was_removed_is_named(tmp_path: Path, capsys, monkeypatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit):
        run_main(lambda: print(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    assert capsys.readouterr().err.startswith("error: the current folder: No such file")


def test_a_terminal_that_cannot_show_a_character_shows_its_number(monkeypatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    run_main(lambda: print("\U0001f35c \udcff"))
    assert stream.buffer.getvalue() == b"\\U0001f35c \\udcff\n"
