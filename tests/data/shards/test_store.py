from pathlib import Path

import pytest

from ramengpt.data.shards.store import locate_store
from ramengpt.errors import UserError


def test_the_store_is_in_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = locate_store("docstrings", {})
    assert store.folder == tmp_path / "data/shards/docstrings" and not store.data_path


def test_an_experiment_elsewhere_uses_the_store_of_the_main_checkout(tmp_path):
    store = locate_store("docstrings", {"DVC_ROOT": str(tmp_path)})
    assert store.folder == tmp_path / "data/shards/docstrings"


def test_data_path_stands_in_for_the_store(tmp_path, capsys):
    environment = {"DATA_PATH": str(tmp_path), "DVC_ROOT": "/elsewhere"}
    store = locate_store("fineweb10B", environment)
    assert store.folder == tmp_path / "fineweb10B"
    store.announce()
    assert f"DATA_PATH={tmp_path}" in capsys.readouterr().err


def test_data_path_may_be_the_dataset_itself(tmp_path):
    (tmp_path / "fineweb_val_000000.bin").touch()
    assert locate_store("fineweb10B", {"DATA_PATH": str(tmp_path)}).folder == tmp_path


def test_without_an_override_nothing_is_said(capsys):
    locate_store("docstrings", {"DVC_ROOT": str(Path.cwd())}).announce()
    assert capsys.readouterr() == ("", "")


def test_the_layout_of_the_original_script_is_found(tmp_path):
    folder = tmp_path / "data" / "fineweb10B"
    folder.mkdir(parents=True)
    assert (
        locate_store("fineweb10B", {"DATA_PATH": str(tmp_path)}).folder == tmp_path / "fineweb10B"
    )
    (folder / "fineweb_val_000000.bin").touch()
    assert locate_store("fineweb10B", {"DATA_PATH": str(tmp_path)}).folder == folder
    assert (
        locate_store("docstrings", {"DATA_PATH": str(tmp_path)}).folder == tmp_path / "docstrings"
    )


def test_a_data_path_that_is_no_path_is_one_line():
    with pytest.raises(UserError, match="DATA_PATH: expected a folder, found '~no-such-user/x'"):
        locate_store("docstrings", {"DATA_PATH": "~no-such-user/x"})
