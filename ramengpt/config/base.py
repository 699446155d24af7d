"""What every section of params.yaml shares: strict, frozen, without defaults."""

import difflib
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from ramengpt.errors import UserError


class ConfigError(UserError):
    """A value in params.yaml (or an override of it) that cannot be used; one line says why."""


class Section(BaseModel):
    """A section of params.yaml: unknown keys, missing keys and wrong types are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


def nearest(prefix: str, name: str, known: Iterable[str]) -> str:
    """The end of an error's line: the known name that was probably meant, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {prefix + near[0]!r}?"
    return f"; choose one of: {', '.join(names)}" if names else ""
