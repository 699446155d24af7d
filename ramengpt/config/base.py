"""The base class of all sections of params.yaml (strict, frozen, no defaults) and types of values.

Every number has bounds. The upper ones are the largest values that anyone could mean, so a slip
(an exponent, a missing point) is refused at once rather than after an hour or never.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ramengpt.errors import UserError


class ConfigError(UserError):
    """A value in params.yaml (or an override of it) that cannot be used; one line says why."""


class Section(BaseModel):
    """A section of params.yaml: unknown keys, missing keys and wrong types are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


LARGEST = 1e6  # of numbers without a narrower bound

Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]

Count = Annotated[int, Field(gt=0, le=1000)]
"""Of parts, passes or attempts."""
CountOrNone = Annotated[int, Field(ge=0, le=1000)]
Steps = Annotated[int, Field(gt=0, le=10**6)]
StepsOrNone = Annotated[int, Field(ge=0, le=10**6)]
Tokens = Annotated[int, Field(gt=0, le=2**24)]
"""Of a sequence or a micro-batch."""
CorpusTokens = Annotated[int, Field(gt=0, le=10**13)]
"""Of a whole data set or split."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Text = Annotated[str, Field(min_length=1, max_length=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
"""Of a column, a branch or a project; short enough for a file name too."""
FilePath = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
