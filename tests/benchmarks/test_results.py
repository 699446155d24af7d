"""The study from its command line: stage after stage, on processes that take no time."""

import sys
import tarfile
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
    monkeypatch.setattr(study, "FACTORS", (0.5, 1.0))
    monkeypatch.setattr(study, "MOST_EXTENSIONS", 1)
    monkeypatch.setattr(study, "PARTS", {"swiglu": ("loss=4",), "head in float8": ("fail=1",)})


def results(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.results", *arguments])
    command.main()


def test_all_stages_one_after_the_other(
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
    # Rates are all as good: each optimizer's lowest is best, so each grid is widened once. No run
    # is further from the baseline than twice its spread, but float8 has a second seed anyway.
    expected = {"sweep": 2 * 3, "embedding": 3, "final": 2 * 3, "small": 1, "parts": 3}
    assert {stage: stages.count(stage) for stage in stages} == expected
    failed = [name for name, entry in entries.items() if entry["status"] == "failed"]
    assert failed == ["parts-head-in-float8-1337", "parts-head-in-float8-1338"]
    assert about["settings"] == list(study.SETTINGS) and "torch" in about["machine"]
    page = (out / "results.md").read_text()
    assert set(tables_in(page)) == {"sweep", "embedding", "final", "parts", "small"}
    capsys.readouterr()
    results(monkeypatch, "--tables", str(out / "results.json"))
    assert capsys.readouterr().out == page
    before = started(out)
    results(monkeypatch, "--out", str(out), "--stages", "sweep,final,small")
    assert started(out) == before


def test_the_archive_unpacks_into_runs_that_can_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(monkeypatch, "--out", str(tmp_path / "r"), "--stages", "sweep,final")
    with tarfile.open(tmp_path / "r/curves.tar.xz") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    run = read_run("final-adam-1338", tmp_path / "unpacked")
    assert run.metrics["validation.loss"] == 4.0 and len(run.train) == 4
    swept = sorted((tmp_path / "unpacked").glob("sweep-adam-*/*/*"))
    names = {path.name for path in swept}
    assert names == {"config.json", "metrics.json", "validation.tsv"}


def test_a_stage_that_lacks_an_earlier_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stages in ("final", "small", "parts"):
        with pytest.raises(UserError, match="an earlier stage has no results yet"):
            results(monkeypatch, "--out", str(tmp_path), "--stages", stages)
    with pytest.raises(UserError, match=r"unknown \['finals'\]; there are sweep, final"):
        results(monkeypatch, "--out", str(tmp_path), "--stages", "sweep,finals")
