"""A record is trained again with what it says."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import repeat
from benchmarks.run_record import DONE, read_record
from tests.benchmarks.fake_runs import be_fake, entry, started
from tests.conftest import ROOT

RECORDS = sorted((ROOT / "docs/results").glob("*.json"))


def test_every_run_is_trained_with_its_settings_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    be_fake(monkeypatch)
    runs = [
        entry("a-1", "seeds", 3.0, arm="a", settings=["loss=3.25"]),
        entry("a-2", "seeds", 3.0, arm="a", settings=["loss=3.5"]),
        entry("b-1", "seeds", 3.0, arm="b", settings=[]),  # 4.0, which all share
        entry("b-2", "seeds", None, arm="b", settings=[]),
    ]
    record = tmp_path / "record.json"
    about = {"settings": ["loss=4.0", "--early_stop_steps", "5"]}
    record.write_text(json.dumps({"about": about, "runs": runs}))
    out = tmp_path / "out"
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["repeat", str(record), "--out", str(out)])
        repeat.main()
    assert sorted(started(out)) == ["a-1", "a-2", "b-1"]
    _, repeated = read_record(out / "repeat.json")
    assert {name: run["validation_loss"] for name, run in repeated.items()} == {
        "a-1": 3.25, "a-2": 3.5, "b-1": 4.0,
    }  # fmt: skip
    table = (out / "repeat.md").read_text().splitlines()[2:]
    assert sorted(table) == [
        "| a | 2 | 3.0000 | 3.3750 | +0.3750 |",
        "| b | 1 | 3.0000 | 4.0000 | +1.0000 |",
    ]
    capsys.readouterr()


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_published_record_can_be_repeated(path: Path) -> None:
    _, entries = read_record(path)
    runs = repeat.recorded_runs(entries)
    assert len(runs) == sum(run["status"] == DONE for run in entries.values())
