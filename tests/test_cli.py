"""Every command ends in an exit status and at most one line."""

import pytest

from ramengpt.cli import run_main
from ramengpt.errors import UserError


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
