"""params.yaml with overrides, and what is said of those that are refused."""

import pytest

from ramengpt.config import Config, ConfigError, load_config
from tests.conftest import ROOT

PARAMS = ROOT / "params.yaml"


def load(*overrides: str) -> Config:
    return load_config(overrides, PARAMS)


def refusal(*overrides: str) -> str:
    """The one line about overrides that are refused."""
    with pytest.raises(ConfigError) as caught:
        load(*overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)
