"""The lock of a run: refuses a second process by name, dies with its holder."""

import os
import signal
from pathlib import Path
from subprocess import Popen

import pytest

from ramengpt.errors import UserError
from ramengpt.training.session import lock
from ramengpt.training.session.lock import run_lock
from tests.training.session.holder import hold_elsewhere


def lock_elsewhere(folder: Path) -> Popen[str]:
    return hold_elsewhere("lock", f"run_lock(Path({str(folder)!r}), wait=False)")[0]


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    holder = lock_elsewhere(tmp_path)
    try:
        with (
            pytest.raises(UserError, match=f"in process {holder.pid} on "),
            run_lock(tmp_path, wait=False),
        ):
            pass
        # Being refused must not take the name away.
        with (
            pytest.raises(UserError, match=f"in process {holder.pid} on "),
            run_lock(tmp_path, wait=False),
        ):
            pass
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with run_lock(tmp_path, wait=False):
        pass


def test_the_lock_is_free_after_the_block(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), run_lock(tmp_path, wait=False):
        raise RuntimeError
    with run_lock(tmp_path, wait=False):
        pass


def test_a_run_that_may_wait_follows_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = lock_elsewhere(tmp_path)
    said = []

    def end_holder(line: str) -> None:
        said.append(line)
        holder.kill()

    monkeypatch.setattr(lock, "say", end_holder)
    with run_lock(tmp_path, wait=True):
        assert holder.wait() != 0
    (line,) = said
    assert f"in process {holder.pid} on " in line
    assert line.endswith("; waiting for it to end")
