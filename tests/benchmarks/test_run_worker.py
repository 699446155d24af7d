"""A worker trains what a process for each run would; test_run_pool has how its runs fail."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.run_pool import worker_command
from benchmarks.run_worker import Worker
from tests.conftest import ROOT
from tests.training.tiny_run import make_tiny_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny project, the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATA_PATH", "DVC_ROOT", "BATCH_SIZE_MULTIPLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    make_tiny_project(tmp_path)


@pytest.fixture
def worker() -> Iterator[Worker]:
    started = Worker(worker_command(), "", os.environ)
    yield started
    started.process.kill()
    started.process.wait()


def status_of(worker: Worker, *arguments: str) -> int:
    worker.begin("arm", arguments, Path("output.txt"))
    while (status := worker.status()) is None:
        time.sleep(0.02)
    return status


def test_a_worker_trains_what_a_process_for_each_run_would(worker: Worker) -> None:
    runs = {"one": ("--seed", "1"), "two": ("--seed", "2", "--set", "embedding_adam.beta1=0.5")}
    for name, flags in runs.items():
        assert status_of(worker, "--out", name, *flags) == 0, Path("output.txt").read_text()
    command = [sys.executable, "-m", "pipeline.train", "--out", "alone", *runs["two"]]
    subprocess.run(command, check=True, capture_output=True)
    weights = {
        name: Path(name, "models/model.safetensors").read_bytes() for name in (*runs, "alone")
    }
    assert weights["two"] == weights["alone"] != weights["one"]
    assert "results" in Path("output.txt").read_text()
