"""Checkpoints that only take up room are named and removed; others stay."""

import json
import sys
from pathlib import Path

import pytest

from ramengpt.source_code import stage_code
from ramengpt.training.session import unresumable
from ramengpt.training.session.lock import run_lock
from ramengpt.training.session.unresumable import main, unresumable_runs


def put(folder: Path, **changed: str) -> Path:
    (folder / "step-00000002").mkdir(parents=True)
    (folder / "step-00000002/state.pt").write_bytes(bytes(2_000_000))
    code = stage_code("train", "bam") | changed
    run = {"settings": {"optimizer": {"rule": "bam"}}, "code": code}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def test_only_those_of_other_code_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = put(tmp_path / "0a")
    lost = put(tmp_path / "0b", **{"ramengpt/model/gpt.py": "0"})
    running = put(tmp_path / "0c", **{"ramengpt/model/gpt.py": "0"})
    (put(tmp_path / "0d") / "run.json").unlink()
    (tmp_path / "0e").mkdir()
    with run_lock(running, wait=False):
        monkeypatch.setattr(sys, "argv", ["unresumable", "--remove", str(tmp_path)])
        main()
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"removed {lost}: 2 MB; ramengpt/model/gpt.py has changed since",
        f"removed {tmp_path / '0d'}: 2 MB; run.json is missing or from another version",
    ]
    assert waiting.is_dir() and running.is_dir() and not lost.exists()


def test_an_unselected_rule_strands_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "0a")
    assert unresumable_runs(tmp_path) == []
    monkeypatch.setattr(unresumable, "stage_code", lambda *_: {})
    assert len(unresumable_runs(tmp_path)) == 1
