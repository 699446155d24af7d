"""The stage that lets the trained model continue the prompts of params.yaml."""

import sys

import pipeline.sample
from tests.inference.tiny_weights import enter_trained_project, tiny_model


def test_the_sample_stage_writes_a_page_with_every_prompt(tmp_path, monkeypatch):
    enter_trained_project(tmp_path, tiny_model(), monkeypatch)
    monkeypatch.setattr(sys, "argv", ["sample"])
    pipeline.sample.main()
    page = (tmp_path / "results/samples.md").read_text()
    prompts = pipeline.sample.load_config().sample.prompts
    assert [page.count(f"> **{prompt}**") for prompt in prompts] == [1] * len(prompts)
    pipeline.sample.main()
    assert (tmp_path / "results/samples.md").read_text() == page
