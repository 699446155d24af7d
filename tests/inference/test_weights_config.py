import json
from pathlib import Path

import pytest

from ramengpt.inference.weights_config import CONFIG_FILE, WeightsError, read_weights_config
from tests.inference.tiny_weights import export_tiny, tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return export_tiny(tmp_path / "models", tiny_model(vocabulary=128))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("model"), "model: missing"),
        (
            lambda config: config["model"].update(gate_inputs=17),
            "gate_inputs must be at most width",
        ),
        (lambda config: config.update(format="gpt-9"), "format: expected 'ramengpt-3'"),
        (lambda config: config.update(surprise=1), "surprise"),
        (lambda config: config["model"].update(activation="gelu"), "another network"),
        (lambda config: config.update(max_sequence_tokens=63), "another network"),
    ],
)
def test_a_config_that_means_nothing_is_one_line(folder, change, message):
    config = json.loads((folder / CONFIG_FILE).read_text())
    change(config)
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=message) as error:
        read_weights_config(folder)
    assert "\n" not in str(error.value)


def test_a_config_that_is_no_json_is_one_line(folder):
    (folder / CONFIG_FILE).write_text("{")
    with pytest.raises(WeightsError, match=r"the file: .*Invalid JSON") as error:
        read_weights_config(folder)
    assert "\n" not in str(error.value)
