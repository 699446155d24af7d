"""Every Triton kernel runs on the CPU, in Triton's interpreter.

Triton decides at import whether to interpret, hence a process of its own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
CHECKS = Path(__file__).with_name("interpreter_checks.py")


def test_kernels_in_the_interpreter():
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CHECKS)],
        env=environment,
        cwd=CHECKS.parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert found.returncode == 0, found.stdout[-4000:]
    assert re.search(r"\b[1-9]\d* passed", found.stdout)
    assert "skipped" not in found.stdout
