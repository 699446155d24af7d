"""The example of docs/adding_an_optimizer.md does what the text says."""

import re
from pathlib import Path
from typing import get_args

import torch
from ruamel.yaml import YAML

import ramengpt.config.optimizer as sections
from ramengpt.config.optimizer import OptimizerConfig
from ramengpt.optimizers.rules import RULES
from tests.optimizers.models import labelled, scalars

GUIDE = Path(__file__).parents[2] / "docs" / "adding_an_optimizer.md"


def test_the_guides_example_works() -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    rule_code, config_code = [text for language, text in blocks if language == "python"]
    values = YAML(typ="safe").load(next(text for language, text in blocks if language == "yaml"))

    namespace = dict(vars(sections))
    exec(config_code, namespace)
    own_imports = "from ramengpt.config.optimizer import LionConfig\n"
    assert own_imports in rule_code
    exec(rule_code.replace(own_imports, ""), namespace)

    rule = namespace["Lion"](namespace["LionConfig"].model_validate(values["lion"]), compile=False)
    weight = labelled(torch.zeros(1, 3, 3), "mlp_in", "hidden").detach()
    gradient = torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(0))
    numbers = scalars(learning_rate=0.5, momentum=0.99, dtype=torch.float32)
    rule.step(weight, gradient, rule.new_state(weight), numbers)
    assert torch.equal(weight, -0.5 * gradient.sign())


def test_the_guide_shows_the_ends_of_both_tables_as_they_are() -> None:
    guide = GUIDE.read_text()
    name, rule = list(RULES.items())[-1]
    assert f'     "{name}": {rule.__name__},\n+    "lion": Lion,' in guide
    assert (
        f"     | {get_args(get_args(OptimizerConfig)[0])[-1].__name__}\n+    | LionConfig" in guide
    )
