"""Where each arm is searched: rates and decay first, then all else, in one table.

A value is a point of a dimension; the settings that it stands for may be of another form, as a
momentum of 0.95 is searched as 1 - momentum = 0.05. Ranges are where a search begins: one whose
best lies at an edge is widened there before the next round.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

EDGE_SHARE = 0.1
"""Of a range, in logarithms: a best value in this outer part is not inside."""
WIDENED_SHARE = 0.25
"""Of a range, by which it grows beyond such an edge."""
Values = Mapping[str, float]


@dataclass(frozen=True)
class Dimension:
    """One value that is searched.

    Attributes:
        name: in tables.
        low: of the range.
        high: likewise.
        keys: of params.yaml that get the value; `{}` stands for the optimizer's name.
        from_one: whether they get 1 minus the value.
        whole: whether the value is a whole number of a linear range from 0; else its logarithm is
            uniform.
    """

    name: str
    low: float
    high: float
    keys: tuple[str, ...]
    from_one: bool = False
    whole: bool = False

    def settings(self, value: float, optimizer: str) -> tuple[str, ...]:
        """The settings that a value stands for."""
        written = 1 - value if self.from_one else value
        text = f"{written:.0f}" if self.whole else f"{written:.8f}".rstrip("0")
        return tuple(f"{key.format(optimizer)}={text}" for key in self.keys)

    def rounded(self, value: float) -> float:
        """To three digits, within the range."""
        if self.whole:
            return float(round(value))
        return min(max(float(f"{value:.3g}"), self.low), self.high)

    def at(self, share: float) -> float:
        """The value at a share of the range, from 0 to 1."""
        if self.whole:
            return self.rounded(self.low + share * (self.high - self.low))
        return self.rounded(self.low * (self.high / self.low) ** share)

    def edge_of(self, value: float) -> str:
        """`low` or `high` where a value lies in the outer part of the range, else nothing."""
        if self.whole:
            return "high" if value > self.high - EDGE_SHARE * (self.high - self.low) else ""
        place = math.log(value / self.low) / math.log(self.high / self.low)
        return "low" if place < EDGE_SHARE else "high" if place > 1 - EDGE_SHARE else ""

    def widened(self, value: float) -> "Dimension":
        """The range, longer where the value lies at its edge."""
        edge = self.edge_of(value)
        if self.whole:
            more = round(WIDENED_SHARE * (self.high - self.low))
            return replace(self, high=self.high + more) if edge else self
        factor = (self.high / self.low) ** WIDENED_SHARE
        if edge == "low":
            return replace(self, low=float(f"{self.low / factor:.3g}"))
        if edge == "high":
            high = float(f"{self.high * factor:.3g}")
            return replace(self, high=min(high, 0.9) if self.from_one else high)
        return self


Space = tuple[Dimension, ...]
RATE = "optimizers.{}.learning_rate"
DECAY = "optimizers.{}.weight_decay"


def _rates(rate: tuple[float, float], decay: tuple[float, float]) -> Space:
    return (
        Dimension("learning rate", *rate, (RATE,)),
        Dimension("weight decay", *decay, (DECAY,)),
    )


def _hyperball(rate: tuple[float, float]) -> Space:
    """Norms are constant, so that the norm of matrices that start at zero stands for decay."""
    gain = Dimension("zero-init gain", 0.25, 4.0, ("optimizers.{}.zero_init_gain",))
    return Dimension("learning rate", *rate, (RATE,)), gain


RATES: dict[str, Space] = {
    "adamw": _rates((0.0005, 0.016), (0.02, 2.0)),
    "adam": _rates((0.0005, 0.016), (5.0, 500.0)),
    "muon_jordan": _rates((0.006, 0.1), (0.01, 0.4)),
    "normuon": _rates((0.01, 0.16), (0.15, 10.0)),
    "muon_eq_r": _rates((0.005, 0.08), (0.15, 10.0)),
    "soap_muon": _rates((0.005, 0.08), (0.15, 10.0)),
    "muon": _rates((0.005, 0.08), (0.15, 10.0)),
    "aro": _rates((0.002, 0.032), (0.01, 1.0)),
    "ademamix": _rates((0.0003, 0.01), (0.02, 2.0)),
    "muon_hyperball": _hyperball((0.004, 0.08)),
    "soap": _rates((0.0007, 0.02), (0.01, 1.0)),
    "adam_hyperball": _hyperball((0.004, 0.08)),
    "bam": _rates((0.001, 0.03), (0.01, 1.0)),
    "lite": _rates((0.001, 0.03), (0.01, 1.0)),
}
"""Of the hidden matrices, in the order of interest. Decay is in the optimizer's own form."""

SHARED: Space = (
    Dimension("warm-up steps", 0, 40, ("optimizers.{}.warmup_steps",), whole=True),
    Dimension("embeddings' rate", 0.008, 0.032, ("optimizers.{}.embedding_learning_rate",)),
    Dimension("head's rate", 0.008, 0.032, ("optimizers.{}.head_learning_rate",)),
    Dimension("scalars' rate", 0.004, 0.016, ("optimizers.{}.scalar_learning_rate",)),
)
_RAMPED: Space = (
    Dimension("1 - momentum", 0.025, 0.1, ("momentum_schedules.ramped.peak",), from_one=True),
)
_CONSTANT: Space = (
    Dimension(
        "1 - momentum",
        0.025,
        0.1,
        tuple(f"momentum_schedules.constant.{key}" for key in ("start", "peak", "end")),
        from_one=True,
    ),
)
_BETA2: Space = (Dimension("1 - beta2", 0.01, 0.2, ("optimizers.{}.beta2",), from_one=True),)
_BETAS: Space = (
    Dimension("1 - beta1", 0.05, 0.2, ("optimizers.{}.beta1",), from_one=True),
    *_BETA2,
)
OWN: dict[str, Space] = {
    "adamw": _BETAS,
    "adam": _BETAS,
    "muon_jordan": _CONSTANT,
    "normuon": (*_RAMPED, *_BETA2),
    "muon_eq_r": _RAMPED,
    "soap_muon": (*_RAMPED, *_BETA2),
    "muon": _RAMPED,
    "aro": _CONSTANT,
    "ademamix": (*_BETAS, Dimension("alpha", 0.5, 8.0, ("optimizers.{}.alpha",))),
    "muon_hyperball": _CONSTANT,
    "soap": _BETAS,
    "adam_hyperball": _BETAS,
    "bam": _RAMPED,
    "lite": (*_CONSTANT, Dimension("flat gain", 1.0, 4.0, ("optimizers.{}.flat_gain",))),
}
"""Momentum and betas of each."""
HOOKS: dict[str, tuple[tuple[str, ...], Space]] = {
    "ema_nesterov": ((), (Dimension("strength", 0.1, 1.0, ("hooks.ema_nesterov.strength",)),)),
    "outer_step": (
        ("hooks.outer_step.every_steps=30",),
        (Dimension("outer rate", 0.4, 1.2, ("hooks.outer_step.learning_rate",)),),
    ),
    "evaluation_average": (
        (),
        (Dimension("share", 0.2, 0.9, ("hooks.evaluation_average.share",)),),
    ),
}
"""What switches a hook on, and what is searched of it; `normuon+outer_step` names such an arm."""
