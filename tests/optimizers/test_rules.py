"""Every rule has a config and values, and every entry of params.yaml a rule."""

from typing import get_args

import pytest
import torch

from ramengpt.config.optimizer import OptimizerConfig
from ramengpt.optimizers.rules import RULES, make_rule
from tests.optimizers.models import OPTIMIZERS, PARAMS, optimizer_config


def test_every_rule_has_a_config() -> None:
    configs = get_args(get_args(OptimizerConfig)[0])
    assert [get_args(config.model_fields["rule"].annotation)[0] for config in configs] == list(
        RULES
    )


def test_every_rule_has_values() -> None:
    assert {entry["rule"] for entry in PARAMS["optimizers"].values()} == set(RULES)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_entry_of_params_can_be_loaded(name: str) -> None:
    assert make_rule(optimizer_config(name), compile=False).new_state(torch.zeros(1, 4, 4))
