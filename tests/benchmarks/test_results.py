"""The study from its command line, on processes that take no time."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results import __main__ as command
from benchmarks.results import study
from benchmarks.results.tables import tables_in
from benchmarks.run_record import read_record
from ramengpt.comparison.runs import read_run
from ramengpt.errors import UserError
from tests.benchmarks.fake_runs import be_fake, started


@pytest.fixture(autouse=True)
def few_tiny_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    be_fake(monkeypatch)
    monkeypatch.setattr(study, "OPTIMIZERS", ("normuon", "adam"))
    monkeypatch.setattr(study, "FACTORS", {"normuon": (1.0,), "adam": (0.5, 1.0)})
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
    assert "the time is over" in capsys.readouterr().out
    assert not (out / "started.txt").exists()
    results(monkeypatch, "--out", str(out))
    about, entries = read_record(out / "results.json")
    stages = [entry["stage"] for entry in entries.values()]
    # Losses are all the same: swiglu hardly matters, and the baseline's second seed is one of the
    # best of its optimizer.
    expected = {"sweep": 1 + 2, "embedding": 1, "seeds": 2 * 2, "small": 1, "parts": 2 + 1}
    assert {stage: stages.count(stage) for stage in stages} == expected
    assert sorted(started(out)) == sorted(entries)
    failed = [name for name, entry in entries.items() if entry["status"] == "failed"]
    assert failed == ["head-in-float8-1337"]
    alone = {name for name, entry in entries.items() if entry["alone"]}
    assert alone == {"small-1337", "adam-0.001-1338", "normuon-0.04-1338"}
    assert about["settings"] == list(study.SETTINGS) and "torch" in about["machine"]
    page = (out / "results.md").read_text()
    assert set(tables_in(page)) == {"sweep", "embedding", "seeds", "parts", "small"}
    capsys.readouterr()
    results(monkeypatch, "--tables", str(out / "results.json"))
    assert capsys.readouterr().out == page
    before = started(out)
    results(monkeypatch, "--out", str(out), "--stages", "sweep,seeds,small")
    assert started(out) == before
    results(monkeypatch, "--out", str(out))
    assert started(out) == [*before, "head-in-float8-1337"]


def test_the_archive_unpacks_into_runs_that_can_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(monkeypatch, "--out", str(tmp_path / "r"))
    (tmp_path / "unpacked").mkdir()
    archive = str(tmp_path / "r/curves.tar.xz")
    subprocess.run(["tar", "-xf", archive, "-C", str(tmp_path / "unpacked")], check=True)
    for timed in ("adam-0.001-1338", "small-1337"):
        run = read_run(timed, tmp_path / "unpacked")
        assert run.metrics["validation.loss"] == 4.0 and len(run.train) == 4
    kept = {"config.json", "metrics.json", "validation.tsv"}
    for shared in ("adam-0.002-1337", "adam-0.001-1339", "swiglu-1338"):
        assert {path.name for path in (tmp_path / "unpacked" / shared).glob("*/*")} == kept
    told = (tmp_path / "unpacked/head-in-float8-1337/output.txt").read_text()
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
    assert set(tables_in((tmp_path / "results.md").read_text())) == {"sweep", "embedding"}


def test_seeds_before_the_sweep_and_unknown_stages_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--stages seeds: the sweep is not whole yet; add sweep"):
        results(monkeypatch, "--out", str(tmp_path), "--stages", "seeds")
    with pytest.raises(UserError, match=r"unknown \['final'\]; there are sweep, seeds, small"):
        results(monkeypatch, "--out", str(tmp_path), "--stages", "sweep,final")
