"""Runs share GPUs; finished ones are kept, failures are reported, no process is left behind."""

import json
import math
import os
import signal
import threading
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from benchmarks import run_pool
from benchmarks.run_places import Child
from benchmarks.run_pool import PoolOptions, run_all
from benchmarks.run_record import Entries, Run, RunRecord
from ramengpt.training.session.interruption import InterruptedRunError
from tests.benchmarks.fake_runs import be_fake, started


@pytest.fixture(autouse=True)
def tiny_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    be_fake(monkeypatch)
    monkeypatch.setattr(run_pool, "visible_gpus", lambda: [""])


def options(folder: Path, processes_each: int = 2) -> PoolOptions:
    return PoolOptions(folder, ("shared=1",), processes_each, 100.0, math.inf)


def record_in(folder: Path) -> RunRecord:
    return RunRecord(folder / "runs.json", {"shared": 1})


def run(name: str, *settings: str, seed: int = 1, alone: bool = False) -> Run:
    return Run(name, seed, settings, {"kind": name[0]}, alone)


def test_results_are_recorded_and_weights_deleted(tmp_path: Path) -> None:
    record = record_in(tmp_path)
    assert run_all(lambda _: [run("a", "loss=3.5", seed=7)], record, options(tmp_path))
    saved = json.loads((tmp_path / "runs.json").read_text())
    assert saved["about"] == {"shared": 1}
    (entry,) = saved["runs"]
    expected = {
        "name": "a",
        "kind": "a",
        "seed": 7,
        "settings": ["loss=3.5"],
        "status": "done",
        "validation_loss": 3.5,
        "train_loss": 5.0,
        "tokens": 400,
        "train_seconds": 13.0,
        "steady_seconds": 4.0,  # the first step waited for a compiler: 1 second in place of 10
        "tokens_per_second": 100.0,
        "peak_memory_gib": 0.5,
        "validation": [[400, 3.5]],
        "alone": False,
        "gpu": "",
        "card": "",
    }
    assert {key: entry[key] for key in expected} == expected
    assert [path.name for path in (tmp_path / "a/models").iterdir()] == ["config.json"]


def test_a_failure_and_a_run_that_takes_too_long_stop_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(child: Child) -> float:
        """As if the slow run took too long once the others have ended and it has a pid."""
        others_ended = {"bad", "good"} <= record.entries.keys()
        slow = child.run.name == "slow" and (tmp_path / "slow/gpu").exists()
        return 101.0 if slow and others_ended else 1.0

    monkeypatch.setattr(Child, "seconds", property(seconds))
    record = record_in(tmp_path)
    runs = [run("bad", "fail=1"), run("slow", "until=never"), run("good")]
    assert run_all(lambda _: runs, record, options(tmp_path, 3))
    ended = {name: (entry["status"], entry.get("error")) for name, entry in record.entries.items()}
    assert ended == {
        "bad": ("failed", "MemoryError: out of it"),
        "slow": ("failed", "no end after 100 seconds"),
        "good": ("done", None),
    }
    assert not alive(tmp_path, "slow")


def alive(folder: Path, name: str) -> bool:
    return Path(f"/proc/{(folder / name / 'pid').read_text()}").exists()


def test_runs_share_every_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_pool, "visible_gpus", lambda: ["4", "6"])
    runs = [run(f"r{n}", "meet=4") for n in range(4)]
    record = record_in(tmp_path)
    assert run_all(lambda _: runs, record, options(tmp_path))
    assert {entry["status"] for entry in record.entries.values()} == {"done"}
    assert sorted((tmp_path / each.name / "gpu").read_text() for each in runs) == list("4466")


def test_a_run_that_wants_a_gpu_to_itself_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_pool, "visible_gpus", lambda: ["4", "6"])
    runs = [run(f"shared{n}", "meet=4") for n in range(5)]
    runs += [run(f"alone{n}", alone=True) for n in range(2)]
    runs += [run(f"later{n}") for n in range(3)]
    assert run_all(lambda _: runs, record_in(tmp_path), options(tmp_path))
    together = [
        {one.name, other.name}
        for one, other in combinations(runs, 2)
        if (tmp_path / one.name / "gpu").read_text() == (tmp_path / other.name / "gpu").read_text()
        and overlap(tmp_path / one.name, tmp_path / other.name)
    ]
    assert together and not [pair for pair in together if pair & {"alone0", "alone1"}]


def overlap(one: Path, other: Path) -> bool:
    """Whether two runs ran at the same time."""
    spans = [(folder / "seconds").read_text().split() for folder in (one, other)]
    return max(float(began) for began, _ in spans) < min(float(ended) for _, ended in spans)


def test_a_stopped_study_leaves_no_process_and_resumes(tmp_path: Path) -> None:
    runs = [run("a"), run("b", "until=resumed")]

    def stop_once_a_is_known() -> None:
        while "a" not in record.entries or not (tmp_path / "b/pid").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    record = record_in(tmp_path)
    threading.Thread(target=stop_once_a_is_known, daemon=True).start()
    with pytest.raises(InterruptedRunError) as stopped:
        run_all(lambda _: runs, record, options(tmp_path))
    assert stopped.value.exit_status == 128 + signal.SIGTERM
    assert not alive(tmp_path, "b")
    again = record_in(tmp_path)
    assert list(again.entries) == ["a"]
    (tmp_path / "resumed").touch()
    assert run_all(lambda _: runs, again, options(tmp_path))
    assert started(tmp_path).count("a") == 1 and started(tmp_path).count("b") == 2
    assert again.entries["b"]["status"] == "done"


def test_what_failed_or_changed_is_run_again_and_nothing_else(tmp_path: Path) -> None:
    first = [run("a"), run("b", "fail=1"), run("c")]
    run_all(lambda _: first, record_in(tmp_path), options(tmp_path))
    then = [run("a"), run("b", "fail=1"), run("c", "loss=2")]
    record = record_in(tmp_path)
    assert run_all(lambda _: then, record, options(tmp_path))
    assert sorted(started(tmp_path)) == ["a", *4 * ["b"], "c", "c"]  # each time b is tried twice
    assert record.entries["c"]["validation_loss"] == 2.0


def test_results_may_lead_to_more_runs(tmp_path: Path) -> None:
    def plan(entries: Entries) -> list[Run]:
        return [run("a"), *([run("b")] if "a" in entries else [])]

    assert run_all(plan, record_in(tmp_path), options(tmp_path))
    assert started(tmp_path) == ["a", "b"]


def test_nothing_begins_after_the_deadline(tmp_path: Path) -> None:
    late = replace(options(tmp_path), deadline=time.monotonic() - 1)
    assert not run_all(lambda _: [run("a")], record_in(tmp_path), late)
    assert not (tmp_path / "started.txt").exists()


def test_the_runs_of_another_study_are_not_mixed_in(tmp_path: Path) -> None:
    run_all(lambda _: [run("a")], record_in(tmp_path), options(tmp_path))
    with pytest.raises(ValueError, match="give another --out"):
        RunRecord(tmp_path / "runs.json", {"shared": 2})
    (tmp_path / "runs.json").write_text("[]")
    with pytest.raises(ValueError, match="no record of runs"):
        record_in(tmp_path)


def test_a_run_without_its_results_has_failed(
    tmp_path: Path,
) -> None:
    record = record_in(tmp_path)
    assert run_all(lambda _: [run("a", "nothing=1")], record, options(tmp_path))
    assert record.entries["a"]["status"] == "failed"
    assert "metrics.json" in record.entries["a"]["error"]


def test_no_process_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--processes: expected at least 1, found 0"):
        options(tmp_path, 0)


def test_runs_follow_each_other_in_one_process_and_what_is_timed_has_its_own(
    tmp_path: Path,
) -> None:
    def arm(name: str, *, alone: bool = False) -> Run:
        return Run(name, 1, (), {"arm": name[0]}, alone)

    runs = [*(arm(f"{letter}{n}") for n in range(3) for letter in "ab"), arm("a-alone", alone=True)]
    assert run_all(lambda _: runs, record_in(tmp_path), options(tmp_path))
    process_of = {each.name: (tmp_path / each.name / "pid").read_text() for each in runs}
    assert (
        len({process_of[f"a{n}"] for n in range(3)} | {process_of[f"b{n}"] for n in range(3)}) <= 2
    )
    assert process_of["a-alone"] not in {
        pid for name, pid in process_of.items() if name[1:] != "-alone"
    }
    assert not [name for name in process_of if alive(tmp_path, name)]


def test_a_run_that_fails_ends_its_process(tmp_path: Path) -> None:
    runs = [run("a"), run("b", "fail=1"), run("c")]
    record = record_in(tmp_path)
    assert run_all(lambda _: runs, record, options(tmp_path, 1))
    assert [record.entries[name]["status"] for name in "abc"] == ["done", "failed", "done"]
    assert len({(tmp_path / name / "pid").read_text() for name in "abc"}) == 3
