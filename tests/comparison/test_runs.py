"""A scratch run's folder is read without git and without DVC."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ramengpt.comparison import __main__
from ramengpt.comparison.runs import flatten, is_scratch_run, params_that_differ, read_run
from ramengpt.errors import UserError
from tests.comparison.made_up import compared

RECORD = {"seed": 7, "optimizer_name": "bam", "optimizer": {"learning_rate": 0.5}, "data_path": ""}


def make_run(folder: Path, loss: float = 4.0, record: object = RECORD) -> Path:
    (folder / "results").mkdir(parents=True)
    (folder / "models").mkdir()
    metrics = {"validation": {"loss": loss}, "tokens": 200, "seconds": 31.0}
    (folder / "results/metrics.json").write_text(json.dumps(metrics))
    train = f"step\ttokens\tseconds\tloss\n1\t100\t30\t9\n2\t200\t31\t{loss}\n"
    (folder / "results/train.tsv").write_text(train)
    (folder / "results/validation.tsv").write_text(train)
    (folder / "models/config.json").write_text(json.dumps({"run": record}))
    return folder


@pytest.fixture(autouse=True)
def no_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dvc.api", None)


def test_settings_have_the_names_of_params_yaml(tmp_path: Path) -> None:
    make_run(tmp_path / "runs/x", loss=3.5)
    run = read_run("runs/x", tmp_path)
    assert run.name == "runs/x"
    assert run.params == {
        "seed": 7,
        "optimizer": "bam",
        "optimizers.bam.learning_rate": 0.5,
        "data_path": "",
    }
    assert run.metrics == {"validation.loss": 3.5, "tokens": 200, "seconds": 31.0}
    assert run.train == run.validation
    assert run.train[1] == {"step": 2, "tokens": 200, "seconds": 31, "loss": 3.5}


def test_only_a_folder_with_a_run_in_it_passes_for_one(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "begun/checkpoints").mkdir(parents=True)
    make_run(tmp_path / "x")
    names = ["docs", "nowhere", "", "begun", "x", str(tmp_path / "x")]
    found = [is_scratch_run(name, tmp_path) for name in names]
    assert found == [False, False, False, True, True, True]
    with pytest.raises(UserError, match=r"begun: results/metrics.json cannot be read"):
        read_run("begun", tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("results/metrics.json", "[]", "x/results/metrics.json holds no keys and values"),
        ("results/train.tsv", "step\tloss\n1\t2\t3\n", "x/results/train.tsv is no table of"),
        ("models/config.json", "{}", "x/models/config.json holds no run"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: str, said: str) -> None:
    make_run(tmp_path / "x").joinpath(file).write_text(content)
    with pytest.raises(UserError, match=said):
        read_run("x", tmp_path)


def test_folders_are_compared_under_their_short_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs/one")
    other: dict[str, Any] = RECORD | {"optimizer_name": "aro"}
    make_run(tmp_path / "runs/two", loss=3.0, record=other)
    monkeypatch.setattr(sys, "argv", ["compare", "runs/one", "runs/two/"])
    __main__.main()
    page = (tmp_path / "results/compare.md").read_text()
    assert page.startswith("# one · two\n")
    assert "| two | 3.0000 | -1.0000 |" in page and "| optimizer | bam | aro |" in page
    assert "results/compare.html" in capsys.readouterr().out


def test_seeds_of_one_setting_are_one_row_with_bits_per_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = []
    for optimizer, shift in (("bam", 0.0), ("aro", -0.5)):
        for seed in (1, 2, 3):
            record = RECORD | {"optimizer_name": optimizer, "seed": seed}
            folder = make_run(tmp_path / f"runs/{optimizer}-{seed}", 4 + seed / 10 + shift, record)
            metrics = json.loads((folder / "results/metrics.json").read_text())
            metrics["validation"]["bits_per_byte"] = 1.25
            (folder / "results/metrics.json").write_text(json.dumps(metrics))
            folders.append(f"runs/{optimizer}-{seed}")
    monkeypatch.setattr(sys, "argv", ["compare", *folders])
    __main__.main()
    page = (tmp_path / "results/compare.md").read_text()
    assert page.startswith("# bam · aro\n")
    assert "| bam | 3 | 4.2000 ± 0.2484 | - | - | 1.2500 |" in page
    assert "| aro | 3 | 3.7000 ± 0.2484 | -0.5000 ± 0.0000 | < 0.0001 | 1.2500 |" in page


def test_two_folders_of_one_name_keep_their_paths(tmp_path: Path) -> None:
    for name in ("a/x", "b/x", "b/y"):
        make_run(tmp_path / name)
    shown = __main__.shown_names(["a/x", "b/x", "b/y", "HEAD"], tmp_path)
    assert shown == {"a/x": "a/x", "b/x": "b/x", "b/y": "y", "HEAD": "HEAD"}


def test_only_params_that_differ_are_listed():
    first = compared("a", [5.0], **{"optimizer": "adam", "optimizers.adam.lr": 0.1, "seed": 1})
    other = compared("b", [5.0], **{"optimizer": "bam", "seed": 1})
    assert params_that_differ([first, other]) == {
        "optimizer": ["adam", "bam"],
        "optimizers.*.lr": [0.1, None],
    }


def test_selected_entries_of_a_table_lie_side_by_side():
    first = compared("a", [5.0], **{"optimizer": "adam", "optimizers.adam.lr": 0.1})
    other = compared("b", [5.0], **{"optimizer": "bam", "optimizers.bam.lr": 0.2, "datasets.x": 1})
    assert params_that_differ([first, other]) == {
        "optimizer": ["adam", "bam"],
        "optimizers.*.lr": [0.1, 0.2],
        "datasets.x": [None, 1],
    }


def test_flatten_joins_keys_with_dots():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": 3}) == {"a.b": 1, "a.c.d": [2], "e": 3}
