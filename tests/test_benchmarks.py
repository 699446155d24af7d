"""The parts of benchmarks/ that need no GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import train_step
from benchmarks.ceilings import Ceilings
from benchmarks.report import Report, relative_error
from benchmarks.scale import STAGES, measure
from benchmarks.train_step import synthetic_batch


def test_synthetic_documents_are_packed_as_the_batcher_packs(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    batch = synthetic_batch(4096, 256, 50_257, seed=1)
    positions = batch.positions_T
    assert [t.dtype for t in batch[:3]] == [torch.int32] * 3
    assert positions[0] == 0
    assert positions.max() == 255
    follows = positions[1:] == positions[:-1] + 1
    assert torch.all(follows | (positions[1:] == 0))
    assert (positions == 0).sum() > 10
    assert torch.equal(batch.targets_T[:-1], batch.tokens_T[1:])


def test_every_stage_of_scale_is_measured():
    figures = measure(num_shards=3, shard_tokens=200_000)
    expected = {f"{stage}_{unit}" for stage in STAGES for unit in ("cpu_seconds", "peak_gigabytes")}
    assert expected < figures.keys()
    assert all(value > 0 for value in figures.values())


def test_the_floor_is_the_larger_of_arithmetic_and_memory():
    ceilings = Ceilings(matmul_flops_per_second=1e12, bytes_per_second=1e9)
    assert ceilings.floor_milliseconds(2e12, 1e9) == 2000
    assert ceilings.floor_milliseconds(1e12, 3e9) == 3000


def test_a_report_prints_at_once_and_writes_json(tmp_path, capsys):
    report = Report(limit_seconds=0)
    assert not report.time_left()
    report.add("part", "name", ms=1.23456, note="text", nothing=None)
    assert "ms 1.235   note text" in capsys.readouterr().out
    report.write(tmp_path / "folder" / "figures.json")
    written = json.loads((tmp_path / "folder" / "figures.json").read_text())
    assert written["rows"] == [
        {"part": "part", "name": "name", "ms": 1.23456, "note": "text", "nothing": None}
    ]
    assert written["machine"]["torch"] == torch.__version__
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["figures.json"]


def test_a_failing_measurement_is_reported_and_the_next_one_runs(capsys):
    def fails() -> None:
        raise RuntimeError("out of shared memory")

    report = Report(limit_seconds=60)
    report.attempt("first", fails)
    report.attempt("second", lambda: report.add("second", "runs", ms=1.0))
    assert report.failures == 1
    assert [row["part"] for row in report.rows] == ["first", "second"]
    assert report.rows[0]["error"] == "RuntimeError: out of shared memory"
    late = Report(limit_seconds=0)
    late.attempt("third", fails)
    assert late.rows == []
    assert "third: left out, no time" in capsys.readouterr().out


def test_nan_never_passes_for_a_small_error():
    poisoned = torch.tensor([1.0, float("nan")])
    assert not relative_error(poisoned, torch.ones(2)) < 1


def test_an_unknown_part_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "kernels,speed"])
    with pytest.raises(SystemExit):
        command.main()
    assert "unknown ['speed']; there are kernels" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="would measure")
def test_without_a_gpu_its_parts_are_skipped_and_said_to_be(tmp_path):
    path = tmp_path / "figures.json"
    arguments = ["--only", "kernels,train_step", "--json", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("skipped, it needs a GPU") == 2
    assert json.loads(path.read_text())["rows"] == []


def test_every_setting_of_whole_steps_is_a_process_with_a_configuration_of_its_own(monkeypatch):
    chosen = train_step.settings(
        ["base", "small"],
        ["ramen", "plain"],
        ["sdpa"],
        ["adam"],
        ("seed=7",),
    )
    assert len({setting.name() for setting in chosen}) == 4
    trained = []
    monkeypatch.setattr(train_step, "run_steps", lambda config: trained.append(config) or {})
    monkeypatch.setattr(sys, "argv", ["train_step", "--child", *chosen[3].arguments()])
    train_step.main()
    (config,) = trained
    names = (config.model_name, config.architecture_name, config.optimizer_name, config.seed)
    assert names == ("small", "plain", "adam", 7)
    assert config.train.attention_backend == "sdpa"
