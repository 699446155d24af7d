"""The example of docs/adding_an_optimizer.md does what the text says, and the table is whole."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
import torch
from ruamel.yaml import YAML

import ramengpt.config.optimizer as sections
from ramengpt.config.optimizer import OptimizerConfig
from ramengpt.optimizers.build import load_rule
from tests.optimizers.models import OPTIMIZERS, PARAMS, labelled, optimizer_config, scalars

GUIDE = Path(__file__).parents[2] / "docs" / "adding_an_optimizer.md"
RULES = [
    get_args(section.model_fields["rule"].annotation)[0]
    for section in get_args(get_args(OptimizerConfig)[0])
]


@pytest.mark.parametrize("rule", RULES)
def test_every_entry_of_the_table_has_its_file(rule: str) -> None:
    assert isinstance(import_module(f"ramengpt.optimizers.{rule}").RULE, type)


def test_every_rule_has_values() -> None:
    assert {entry["rule"] for entry in PARAMS["optimizers"].values()} == set(RULES)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_entry_of_params_can_be_loaded(name: str) -> None:
    assert load_rule(optimizer_config(name), compile=False).new_state(torch.zeros(1, 4, 4))


def test_the_guides_example_works(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    code = [text for language, text in blocks if language == "python"]
    values = YAML(typ="safe").load(next(text for language, text in blocks if language == "yaml"))

    namespace = dict(vars(sections))
    exec(code[1], namespace)
    monkeypatch.setattr(sections, "LionConfig", namespace["LionConfig"], raising=False)
    module = ModuleType("ramengpt.optimizers.lion")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(code[0], module.__dict__)

    config = namespace["LionConfig"].model_validate(values["lion"])
    rule = load_rule(config, compile=False)
    weight = labelled(torch.zeros(1, 3, 3), "mlp_in", "hidden").detach()
    gradient = torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(0))
    numbers = scalars(learning_rate=0.5, momentum=0.99, dtype=torch.float32)
    rule.step(weight, gradient, rule.new_state(weight), numbers)
    assert torch.equal(weight, -0.5 * gradient.sign())


def test_the_guide_shows_the_table_as_it_is() -> None:
    table = re.search(r"^-    (.*),$", GUIDE.read_text(), flags=re.MULTILINE)
    assert table is not None
    names = [section.__name__ for section in get_args(get_args(OptimizerConfig)[0])]
    assert table[1].split(" | ") == names
