"""The card of a shared model says what its files say."""

import re

from ruamel.yaml import YAML

from ramengpt.inference.model_card import model_card
from ramengpt.inference.weights_config import WeightsConfig
from tests.inference.test_share import METRICS, RUN
from tests.inference.tiny_weights import tiny_config


def test_numbers_machines_and_the_command_are_those_of_the_run() -> None:
    config = WeightsConfig(
        format="ramengpt-1",
        model=tiny_config(),
        max_sequence_tokens=1024,
        micro_batch_tokens=128,
        run=RUN,
    )
    card = model_card("me/tiny", config, METRICS, parameters=1_234_567)
    _, front, text = card.split("---\n", 2)
    assert YAML(typ="safe").load(front)["library_name"] == "ramengpt"
    assert text.startswith("\n# tiny\n") and "1.2 million parameters" in text
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE))
    assert rows == {
        "parameters": "1,234,567",
        "longest document": "1,024 tokens",
        "validation loss": "3.25",
        "tokens/s": "5,800",
        "trained on": "A Card, PyTorch 2.13.0",
    }
    assert (
        "dvc exp run -S dataset=docstrings -S model=instant -S architecture=ramen -S optimizer=bam "
        "-S schedule=instant -S seed=7\n"
    ) in text
    stopped = config.model_copy(
        update={"run": {**RUN, "stop_at_loss": None, "early_stop_steps": 9}}
    )
    text = model_card("me/tiny", stopped, METRICS, parameters=1)
    assert "python -m pipeline.train --set dataset=docstrings --set model=instant" in text
    assert "--set seed=7 --early_stop_steps 9\n" in text and "--stop_at_loss" not in text
