"""The lock of a run: refuses a second process by name, dies with its holder."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from ramengpt.errors import UserError
from ramengpt.training.session.lock import run_lock


def hold_elsewhere(folder: Path) -> subprocess.Popen:
    code = f"""
        import time
        from pathlib import Path
        from ramengpt.training.session.lock import run_lock
        with run_lock(Path({str(folder)!r}), wait=False):
            print("held", flush=True)
            time.sleep(60)
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    holder = hold_elsewhere(tmp_path)
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
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = hold_elsewhere(tmp_path)
    threading.Timer(0.5, holder.kill).start()
    with run_lock(tmp_path, wait=True):
        assert holder.wait() != 0
    said = capsys.readouterr().out
    assert f"in process {holder.pid} on " in said
    assert said.endswith("; waiting for it to end\n")
