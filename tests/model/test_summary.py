"""The table of what a preset costs."""

import sys

import pytest

from ramengpt.config import load_config
from ramengpt.model import summary
from ramengpt.model.cost import count_parameters
from tests.conftest import ROOT


def test_the_total_is_the_networks_own(monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["summary", "--model", "base", "--schedule", "base"])
    summary.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model base, schedule base")
    config = load_config(["model=base", "schedule=base"])
    total = sum(count_parameters(config.network).values())
    assert any(line.split() == ["total", f"{total:,}"] for line in lines)


@pytest.mark.parametrize("part", ["smear_gate", "value_embedding"])
def test_a_part_that_is_off_has_no_row(monkeypatch, part: str) -> None:
    monkeypatch.chdir(ROOT)
    assert part in summary.summarise(load_config(["architecture=ramen"]))
    assert part not in summary.summarise(load_config(["architecture=plain"]))
