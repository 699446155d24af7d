"""Values edited while a stage runs are not recorded as what it used."""

import sys

import pytest

import pipeline.sample
from pipeline._edits import check_values_unchanged
from ramengpt.config import load_config
from ramengpt.errors import UserError
from tests.inference.tiny_weights import enter_trained_project, tiny_model


def test_only_the_values_that_a_stage_used_count(tmp_path, monkeypatch):
    enter_trained_project(tmp_path, tiny_model(), monkeypatch)
    before = load_config()
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("\nseed: ", "\nseed: 4"))
    check_values_unchanged("dataset", lambda config: config.dataset, before)
    with pytest.raises(UserError, match=r"^params\.yaml: seed changed while this stage ran; run"):
        check_values_unchanged("seed", lambda config: config.seed, before)


def test_a_stage_whose_values_were_edited_fails(tmp_path, monkeypatch):
    enter_trained_project(tmp_path, tiny_model(), monkeypatch)
    written = pipeline.sample.write_bytes

    def edit(*arguments):
        params = tmp_path / "params.yaml"
        params.write_text(params.read_text().replace("temperature: 0.8", "temperature: 0.7"))
        written(*arguments)

    monkeypatch.setattr(pipeline.sample, "write_bytes", edit)
    monkeypatch.setattr(sys, "argv", ["sample"])
    with pytest.raises(UserError, match="sample changed while this stage ran"):
        pipeline.sample.main()
