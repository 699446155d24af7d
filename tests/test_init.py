"""What importing the package does."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("platform", "advice"), [("win32", "use WSL"), ("darwin", "MPS")])
def test_other_systems_are_refused_in_one_line(platform: str, advice: str) -> None:
    code = f"import sys; sys.platform = {platform!r}; import ramengpt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert platform in line and advice in line
