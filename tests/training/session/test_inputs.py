"""A run's name changes exactly when something it depends on does."""

import json
from pathlib import Path

import pytest

from ramengpt.config import load_config
from ramengpt.errors import UserError
from ramengpt.training.session import inputs as module
from ramengpt.training.session.inputs import (
    RunInputs,
    check_inputs_match_stage_check,
    check_nothing_changed,
    run_inputs,
)
from ramengpt.training.session.settings import RunOptions

BEFORE = RunInputs(
    {"seed": 1, "train": {"lr": 0.1}, "optimizer": {"momentum": {"peak": 0.9}}},
    {"a.py": "1"},
    {"manifest.json": "2"},
)


def test_the_order_of_keys_does_not_matter() -> None:
    settings = dict(reversed(BEFORE.settings.items()))
    other = RunInputs(settings, {"a.py": "1"}, {"manifest.json": "2"})
    assert other.fingerprint() == BEFORE.fingerprint()


@pytest.mark.parametrize(
    ("after", "named"),
    [
        (RunInputs(BEFORE.settings | {"train": {"lr": 0.2}}, BEFORE.code, BEFORE.data), "train.lr"),
        (RunInputs(BEFORE.settings, {"a.py": "1", "b.py": "1"}, BEFORE.data), "b.py"),
        (RunInputs(BEFORE.settings, BEFORE.code, {"manifest.json": "3"}), "manifest.json"),
    ],
)
def test_every_difference_is_named_and_makes_another_run(after: RunInputs, named: str) -> None:
    assert after.fingerprint() != BEFORE.fingerprint()
    assert BEFORE.differences(after) == [named]
    with pytest.raises(UserError, match=rf"^{named} changed while this run trained.* from kept"):
        check_nothing_changed(BEFORE, after, Path("kept"))


def test_values_code_and_data_are_all_read(tmp_path: Path) -> None:
    data = tmp_path / "manifest.json"
    data.write_text("one")
    config, options, code = load_config(), RunOptions(None, None), {"a.py": "1"}
    read = run_inputs(config, options, code, [data])
    assert read == run_inputs(config, options, code, [data])
    assert read.settings["optimizer"]["rule"] == "normuon"
    assert read.code == code
    assert read.name() == f"normuon-{read.fingerprint()[:6]}"
    data.write_text("two")
    assert read.differences(run_inputs(config, options, code, [data])) == [str(data)]


def test_an_input_edited_after_the_check_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKED_CODE", tmp_path / "train.json")
    monkeypatch.setattr(module, "CHECKED_BLOCKS", tmp_path / "blocks.json")
    check_inputs_match_stage_check(BEFORE)
    (tmp_path / "train.json").write_text(json.dumps(BEFORE.code))
    check_inputs_match_stage_check(BEFORE)
    (tmp_path / "train.json").write_text(json.dumps({"a.py": "0"}))
    with pytest.raises(UserError, match=r"^a.py: changed since .*start with `dvc repro`"):
        check_inputs_match_stage_check(BEFORE)
    (tmp_path / "train.json").write_text(json.dumps(BEFORE.code))
    (tmp_path / "blocks.json").write_text(json.dumps({"momentum": {"peak": 0.8}}))
    with pytest.raises(UserError, match=r"^momentum.peak: changed since .*start with `dvc repro`"):
        check_inputs_match_stage_check(BEFORE)
