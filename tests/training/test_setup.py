"""A run is built at its newest readable checkpoint, or refused."""

from pathlib import Path

import pytest

from ramengpt.errors import UserError
from tests.training.tiny_run import result, run_folder, saved_steps, stop_in, train_in

pytestmark = [
    pytest.mark.usefixtures("inside_project"),
]


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    project: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop_in(monkeypatch, 6, out=out)
    assert saved_steps(out) == [6, 7]
    (run_folder(out) / "step-00000007/checkpoint.json").write_text("[]")
    train_in(out)
    said = capsys.readouterr().out
    assert "step-00000007: skipped, " in said
    assert "resuming after step 6, from " in said
    assert result(out) == result(project / "whole")


def test_a_checkpoint_of_another_model_is_one_line(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_in(monkeypatch, 2, out=out)
    wider = ("models.instant.head_dim=32",)
    stop_in(monkeypatch, 2, *wider, out=out.with_name("wider"))
    newest = run_folder(out) / "step-00000003"
    newest.rename(out.with_name("own"))
    (run_folder(out.with_name("wider")) / "step-00000003").rename(newest)
    with pytest.raises(UserError, match=r"step-00000003: expected a checkpoint of the run ") as one:
        train_in(out)
    assert "\n" not in str(one.value)
