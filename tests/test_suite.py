"""The suite itself: its tests have the same names in every process that collects them."""

import os
import subprocess
import sys
from collections.abc import Iterable

import pytest

from tests.conftest import ROOT


def by_file(names: Iterable[str]) -> list[str]:
    """Files in the order of their names; tests of a file stay in theirs."""
    return sorted(names, key=lambda name: name.partition("::")[0])


def test_another_process_collects_tests_of_the_same_names(request: pytest.FixtureRequest) -> None:
    """Seconds after this one, so that compressed data differs, and with another hash seed."""
    here = by_file(item.nodeid for item in request.session.items)
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": seed},
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    there = by_file(line for line in result.stdout.splitlines() if "::" in line)
    assert len(there) > 1000
    assert [name for name in there if name in set(here)] == here
