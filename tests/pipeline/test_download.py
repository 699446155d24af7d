"""The download stage as DVC runs it: a process of its own, against a Hub on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from ruamel.yaml import YAML

from ramengpt.data.shards.format import open_shard
from tests.data.sources.text_builds import fineweb_like, make_texts, reference_tokens
from tests.data.sources.tiny_hub import FILES, FIRST, REPOSITORY
from tests.loopback_hub import Fault, LoopbackHub

ROOT = Path(__file__).parents[2]
RAW = "HuggingFaceFW/fineweb"

ENTRIES = {
    "tiny": {
        "kind": "hub_shards",
        "name": "tiny",
        "repository": REPOSITORY,
        "revision": "main",
        "train_shards": 2,
    },
    "raw": {
        "kind": "hub_text",
        "name": "fineweb",
        "repository": RAW,
        "subset": "sample-10BT",
        "revision": "main",
        "text_field": "text",
        "val_tokens": 2000,
        "shard_tokens": 3000,
        "train_shards": 3,
    },
    "mine": {
        "kind": "text",
        "name": "mine",
        "paths": ["in/*.jsonl"],
        "text_field": "text",
        "document_separator": "",
        "val_tokens": 100,
        "shard_tokens": 300,
    },
    "small": {
        "kind": "docstrings",
        "name": "small",
        "packages": ["filelock", "no_such_package"],
        "minimum_characters": 200,
        "val_tokens": 20_000,
        "train_tokens": 100_000,
        "shard_tokens": 60_000,
    },
}


class Project:
    """A folder with a params.yaml in which the stage runs."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        for variable in ("DATA_PATH", "DVC_ROOT", "HF_HUB_OFFLINE", "HF_TOKEN"):
            self.environment.pop(variable, None)

    def configure(self, dataset: str, **values: object) -> None:
        yaml = YAML(typ="safe", pure=True)
        params = yaml.load((ROOT / "params.yaml").read_text())
        params["dataset"] = dataset
        entries = {**ENTRIES, dataset: {**ENTRIES[dataset], **values}}
        params["datasets"] = {**params["datasets"], **entries}
        params["reading"] |= {name: params["reading"]["text"] for name in ENTRIES}
        params["download"] |= {"attempts": 3, "backoff_seconds": 0.05, "processes": 2}
        with (self.folder / "params.yaml").open("w") as file:
            yaml.dump(params, file)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.download", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=200)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def download_record(self) -> dict:
        return json.loads((self.folder / "data" / "download.json").read_bytes())

    def store(self, dataset: str) -> Path:
        return self.folder / "data" / "shards" / dataset


@pytest.fixture
def hub():
    with LoopbackHub({REPOSITORY: dict(FILES)}) as server:
        yield server


@pytest.fixture
def project(tmp_path, hub) -> Project:
    return Project(tmp_path, hub.environment(str(tmp_path / "home")))


def test_fetch_kill_in_the_middle_of_a_file_and_resume(project, hub):
    project.configure("tiny")
    hub.faults[FIRST] = [Fault(chunk_seconds=30.0)]
    first = project.start()
    parts = project.store("tiny")
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size for p in parts.glob(f".{FIRST}.*.part")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not (parts / FIRST).exists()
    done = project.run()
    assert done.returncode == 0, done.stderr
    whole, resumed = hub.gets(FIRST)
    assert (whole, resumed[:8]) == ("", "bytes=65"), "the first chunk is not asked for again"
    assert {path.name for path in parts.glob("*.bin")} == {
        shard["file"] for shard in project.download_record()["shards"]
    }
    for file in ("tiny_val_000000.bin", FIRST):
        assert (parts / file).read_bytes() == FILES[file]
    assert "100%" in done.stderr
    before = project.download_record()
    again = project.run()
    assert "up to date" in again.stdout
    assert project.download_record() == before


def test_two_downloads_of_one_store_wait_for_each_other(project, hub):
    project.configure("tiny")
    hub.faults[FIRST] = [Fault(chunk_seconds=0.3)]
    both = [project.start() for _ in range(2)]
    results = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert len(hub.gets(FIRST)) == 1


def test_errors_are_one_line_and_leave_the_download_record(project, hub):
    project.configure("tiny")
    assert project.run().returncode == 0
    before = project.download_record()
    project.configure("tiny", train_shards=7)
    refused = project.run()
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: tiny_train_000004.bin: not in kjj0/tiny-gpt2")
    assert refused.stderr.count("\n") == 1
    hub.close()
    project.configure("tiny", revision="v2")
    offline = project.run()
    assert offline.returncode == 1
    assert "dataset=docstrings, which runs offline" in offline.stderr
    assert project.download_record() == before


def test_a_mistake_in_params_costs_nothing(project, hub):
    project.configure("tiny", train_shards=0)
    done = project.run()
    assert done.returncode == 1
    assert "train_shards" in done.stderr
    assert hub.requests == []
    assert not (project.folder / "data").exists()


def test_raw_text_through_the_hub(project, hub, tmp_path):
    texts = make_texts(600, 3)
    hub.repositories[RAW] = fineweb_like(tmp_path, texts)
    project.configure("raw", train_shards=1)
    done = project.run()
    assert done.returncode == 0, done.stderr
    project.configure("raw")
    more = project.run()
    assert more.returncode == 0, more.stderr
    store = project.store("raw")
    files = [shard["file"] for shard in project.download_record()["shards"]]
    assert files[:2] == ["fineweb_val_000000.bin", "fineweb_train_000001.bin"]
    found = np.concatenate([open_shard(store / file) for file in files])
    assert np.array_equal(found, reference_tokens(texts)[:11_000])
    project.configure("raw", subset="sample-99BT")
    wrong = project.run()
    assert wrong.returncode == 1
    assert "sample-99BT" in wrong.stderr
    assert wrong.stderr.strip().count("\n") <= 1


def test_text_lies_in_the_main_checkout_when_dvc_runs_elsewhere(project, tmp_path):
    project.configure("mine")
    (tmp_path / "main" / "in").mkdir(parents=True)
    texts = make_texts(60, 1)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "main" / "in" / "a.jsonl").write_text(lines)
    done = project.run(DVC_ROOT=str(tmp_path / "main"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "main" / "data" / "shards" / "mine" / "mine_val_000000.bin").exists()
    assert f"documents {len(texts)}," in done.stdout


def recorded(store: Path) -> list[str]:
    return list(json.loads((store / ".provenance.json").read_bytes())["shards"])


def test_a_killed_build_leaves_no_process_and_resumes(project, tmp_path):
    texts = make_texts(20_000, 5)
    (tmp_path / "in").mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "in" / "a.jsonl").write_text(lines)
    project.configure("mine", shard_tokens=100_000)
    store = project.store("mine")
    first = project.start()
    deadline = time.monotonic() + 60
    while not (store / ".provenance.json").exists() or len(recorded(store)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    workers = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.communicate()
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    finished = {store / file: (store / file).stat().st_mtime_ns for file in recorded(store)}
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert finished == {path: path.stat().st_mtime_ns for path in finished}
    files = [shard["file"] for shard in project.download_record()["shards"]]
    assert len(files) > len(finished)
    found = np.concatenate([open_shard(store / file) for file in files])
    assert np.array_equal(found, reference_tokens(texts))


def test_a_store_that_cannot_be_written_to(project, tmp_path):
    project.configure("small")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shards").write_text("not a folder")
    done = project.run()
    assert done.returncode == 1
    assert "DATA_PATH" in done.stderr
    assert done.stderr.count("\n") == 1


def test_docstrings_run_offline_and_are_kept(project, hub):
    hub.close()
    project.configure("small")
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert "no_such_package is not installed" in done.stdout
    record = project.download_record()
    assert [shard["split"] for shard in record["shards"]] == ["val", "train", "train"]
    assert record["shards"][0]["bytes"] <= 1024 + 2 * 20_000
    tokens = sum(shard["bytes"] // 2 - 512 for shard in record["shards"][1:])
    assert 99_000 < tokens <= 100_000
    assert "up to date" in project.run().stdout
    (project.store("small") / "small_train_000001.bin").unlink()
    assert project.run().returncode == 0
    assert project.download_record() == record
