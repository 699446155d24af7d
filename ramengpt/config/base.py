"""What every section of params.yaml shares: strict, frozen, without defaults."""

from pydantic import BaseModel, ConfigDict

from ramengpt.errors import UserError


class ConfigError(UserError):
    """A value in params.yaml (or an override of it) that cannot be used; one line says why."""


class Section(BaseModel):
    """A section of params.yaml: unknown keys, missing keys and wrong types are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
