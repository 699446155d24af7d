"""params.yaml as frozen, typed, strict objects. Nothing else in the project reads YAML."""

from ramengpt.config.base import ConfigError, Section

__all__ = ["ConfigError", "Section"]
