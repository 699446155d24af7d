"""The study from its command line, on processes that take no time."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results import __main__ as command
from benchmarks.results import study
from benchmarks.results.search import Point
from benchmarks.results.tables import tables_in
from benchmarks.run_record import read_record
from ramengpt.comparison.runs import read_run
from ramengpt.errors import UserError
from tests.benchmarks.fake_runs import be_fake, started


@pytest.fixture(autouse=True)
def few_tiny_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    best = {"normuon": Point(0.04, 1.0), "adam": Point(0.001, 1.0)}

    def trained_at(optimizer: str, point: Point) -> tuple[str, ...]:
        steps = [math.log2(one / other) for one, other in zip(point, best[optimizer], strict=True)]
        return f"optimizer={optimizer}", f"loss={4 + math.hypot(*steps)}"

    be_fake(monkeypatch)
    monkeypatch.setattr(study, "trained_at", trained_at)
    monkeypatch.setattr(study, "OPTIMIZERS", ("normuon", "adam"))
    monkeypatch.setattr(study, "FIRST_RATES", {"normuon": (0.02, 0.04), "adam": (0.002, 0.004)})
    monkeypatch.setattr(study, "FIRST_EMBEDDING_RATES", (1.0, 2.0))
    monkeypatch.setattr(study, "PARTS", {"swiglu": ("loss=4",), "head in float8": ("fail=1",)})


def results(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.results", *arguments])
    command.main()


def test_all_stages_with_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    with pytest.raises(SystemExit):
        results(monkeypatch, "--out", str(out), "--seconds", "0")
    assert "out of time" in capsys.readouterr().out
    assert not (out / "started.txt").exists()
    results(monkeypatch, "--out", str(out))
    about, entries = read_record(out / "results.json")
    stages = [entry["stage"] for entry in entries.values()]
    # From grids of 4, normuon's search grows by the 2 neighbours of its corner, and adam's by 2
    # and, where the rate is half, by 3 more. swiglu hardly matters.
    expected = {"sweep": (4 + 2) + (4 + 2 + 3), "seeds": 2 * 2, "small": 1, "parts": 2 + 1}
    assert {stage: stages.count(stage) for stage in stages} == expected
    assert sorted(started(out)) == sorted(entries)
    failed = [name for name, entry in entries.items() if entry["status"] == "failed"]
    assert failed == ["head-in-float8-0.04-1-1337"]
    timed = {name for name, entry in entries.items() if entry["alone"]}
    assert timed == {"small-0.04-1-1337", "adam-0.001-1-1338", "normuon-0.04-1-1338"}
    assert set(started(out)[-3:]) == timed
    assert about["settings"] == list(study.SETTINGS) and "torch" in about["machine"]
    page = (out / "results.md").read_text()
    assert set(tables_in(page)) == {"sweep", "seeds", "parts", "small"}
    assert "Better learning rates" not in page
    capsys.readouterr()
    results(monkeypatch, "--tables", str(out / "results.json"))
    assert capsys.readouterr().out == page
    before = started(out)
    results(monkeypatch, "--out", str(out), "--stages", "sweep,seeds,small")
    assert started(out) == before
    results(monkeypatch, "--out", str(out))
    assert started(out) == [*before, "head-in-float8-0.04-1-1337"]


def test_the_archive_unpacks_into_runs_that_can_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(monkeypatch, "--out", str(tmp_path / "r"))
    (tmp_path / "unpacked").mkdir()
    archive = str(tmp_path / "r/curves.tar.xz")
    subprocess.run(["tar", "-xf", archive, "-C", str(tmp_path / "unpacked")], check=True)
    for timed in ("adam-0.001-1-1338", "small-0.04-1-1337"):
        run = read_run(timed, tmp_path / "unpacked")
        assert run.metrics["validation.loss"] == 4.0 and len(run.train) == 4
    kept = {"config.json", "metrics.json", "validation.tsv"}
    for shared in ("adam-0.002-2-1337", "adam-0.001-1-1339", "swiglu-0.04-1-1338"):
        assert {path.name for path in (tmp_path / "unpacked" / shared).glob("*/*")} == kept
    told = (tmp_path / "unpacked/head-in-float8-0.04-1-1337/output.txt").read_text()
    assert "out of it" in told


def test_what_is_known_is_written_when_a_study_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(monkeypatch, "--out", str(tmp_path), "--stages", "sweep")
    (tmp_path / "results.md").unlink()

    def stopped(*_: object) -> bool:
        raise UserError("stopped")

    monkeypatch.setattr(command, "run_all", stopped)
    with pytest.raises(UserError, match="stopped"):
        results(monkeypatch, "--out", str(tmp_path))
    assert set(tables_in((tmp_path / "results.md").read_text())) == {"sweep"}


@pytest.mark.parametrize("stages", ["seeds", "small", "parts", "parts,small"])
def test_what_needs_the_sweep_is_refused_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: str
) -> None:
    expected = f"--stages {stages}: the sweep is not whole yet; add sweep"
    with pytest.raises(UserError, match=expected):
        results(monkeypatch, "--out", str(tmp_path), "--stages", stages)
    assert not (tmp_path / "started.txt").exists()


def test_parts_alone_bring_the_seeds_of_their_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stages in ("sweep", "parts"):
        results(monkeypatch, "--out", str(tmp_path), "--stages", stages)
    _, entries = read_record(tmp_path / "results.json")
    seeds = [name for name, entry in entries.items() if entry["stage"] == "seeds"]
    assert sorted(seeds) == ["normuon-0.04-1-1338", "normuon-0.04-1-1339"]
    assert "| none (baseline) | 4.0000 ± 0.0000 |" in (tmp_path / "results.md").read_text()


def test_unknown_stages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"unknown \['final'\]; there are sweep, small, seeds"):
        results(monkeypatch, "--out", str(tmp_path), "--stages", "sweep,final")
