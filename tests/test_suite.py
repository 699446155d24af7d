"""The suite itself: its tests have the same names in every process that collects them."""

import os
import subprocess
import sys
import time

from tests.conftest import ROOT


def collected(hash_seed: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    )
    return [line for line in result.stdout.splitlines() if "::" in line]


def test_two_collections_seconds_apart_name_the_same_tests() -> None:
    first = collected("1")
    time.sleep(1.1)  # compressed data carries the second it was made in
    assert len(first) > 1000
    assert collected("2") == first
