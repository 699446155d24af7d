"""params.yaml as frozen, typed, strict objects. Nothing else in the project reads YAML."""

from ramengpt.config.base import ConfigError, Section
from ramengpt.config.load import Config, load_config

__all__ = ["Config", "ConfigError", "Section", "load_config"]
