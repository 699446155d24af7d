"""Where each arm is searched: rates and decay first, then all else, in one table.

Decay is searched as the share of a weight that a step removes: unlike `weight_decay`, whose best
value moves with the rate, it has one range for all optimizers.

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
        rate_power: the keys get the value divided by this power of the arm's learning rate.
        needs: settings with which the keys have an effect.
    """

    name: str
    low: float
    high: float
    keys: tuple[str, ...]
    from_one: bool = False
    whole: bool = False
    rate_power: int = 0
    needs: tuple[str, ...] = ()

    def settings(self, value: float, optimizer: str, rate: float) -> tuple[str, ...]:
        """The settings that a value stands for, at a learning rate of the arm."""
        if self.rate_power:
            value = float(f"{value / rate**self.rate_power:.3g}")
        written = 1 - value if self.from_one else value
        text = f"{written:.0f}" if self.whole else f"{written:.8f}".rstrip("0")
        values = [f"{key}={text}" for key in self.keys]
        return tuple(setting.format(optimizer) for setting in (*self.needs, *values))

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
RATE = "learning rate"


def _rates(low: float, high: float, *, rate_power: int) -> Space:
    """The rate, and the share of the weights that a step at this rate removes.

    The share wants the same range whatever the optimizer: a few times 1 / steps and less.
    """
    return (
        Dimension(RATE, low, high, ("optimizers.{}.learning_rate",)),
        Dimension(
            "decay per step", 0.002, 0.08, ("optimizers.{}.weight_decay",), rate_power=rate_power
        ),
    )


HYPERBALL: Space = (
    Dimension(RATE, 0.004, 0.08, ("optimizers.{}.learning_rate",)),
    Dimension("zero-init gain", 0.25, 4.0, ("optimizers.{}.zero_init_gain",)),
)
"""Norms are constant, so that the norm of matrices that start at zero stands for decay."""
RATES: dict[str, Space] = {
    "adamw": _rates(0.0003, 0.01, rate_power=1),
    "muon_jordan": _rates(0.008, 0.12, rate_power=1),
    "normuon": _rates(0.008, 0.12, rate_power=2),
    "muon_eq_r": _rates(0.005, 0.08, rate_power=2),
    "soap_muon": _rates(0.005, 0.08, rate_power=2),
    "muon": _rates(0.008, 0.12, rate_power=2),
    "aro": _rates(0.002, 0.032, rate_power=1),
    "soap": _rates(0.0005, 0.016, rate_power=1),
    "ademamix": _rates(0.0003, 0.01, rate_power=1),
    "muon_hyperball": HYPERBALL,
    "lite": _rates(0.001, 0.03, rate_power=1),
    "adam": _rates(0.0003, 0.01, rate_power=2),
    "bam": _rates(0.001, 0.03, rate_power=1),
    "adam_hyperball": HYPERBALL,
}
"""Of the hidden matrices, in the order of interest."""

SHARED: Space = (
    Dimension("embeddings' rate", 0.005, 0.032, ("optimizers.{}.embedding_learning_rate",)),
    Dimension("head's rate", 0.006, 0.04, ("optimizers.{}.head_learning_rate",)),
    Dimension("scalars' rate", 0.002, 0.032, ("optimizers.{}.scalar_learning_rate",)),
)


def _warmup(most: int) -> Dimension:
    return Dimension("warm-up steps", 0, most, ("optimizers.{}.warmup_steps",), whole=True)


def _momentum(schedule: str, *keys: str) -> Space:
    keys = tuple(f"momentum_schedules.{schedule}.{key}" for key in keys)
    needs = (f"optimizers.{{}}.momentum={schedule}",)
    return _warmup(30), Dimension("1 - momentum", 0.03, 0.25, keys, from_one=True, needs=needs)


_RAMPED = _momentum("ramped", "peak")
_CONSTANT = _momentum("constant", "start", "peak", "end")
_BETA2 = Dimension("1 - beta2", 0.01, 0.4, ("optimizers.{}.beta2",), from_one=True)
_BETAS: Space = (
    _warmup(80),
    Dimension("1 - beta1", 0.04, 0.3, ("optimizers.{}.beta1",), from_one=True),
    _BETA2,
)
OWN: dict[str, Space] = {
    "adamw": _BETAS,
    "adam": _BETAS,
    "muon_jordan": _CONSTANT,
    "normuon": (*_RAMPED, _BETA2),
    "muon_eq_r": _RAMPED,
    "soap_muon": (*_RAMPED, _BETA2),
    "muon": _RAMPED,
    "aro": _CONSTANT,
    "ademamix": (*_BETAS, Dimension("alpha", 0.5, 8.0, ("optimizers.{}.alpha",))),
    "muon_hyperball": _CONSTANT,
    "soap": _BETAS,
    "adam_hyperball": _BETAS,
    "bam": _RAMPED,
    "lite": (*_CONSTANT, Dimension("flat gain", 1.0, 4.0, ("optimizers.{}.flat_gain",))),
}
"""Warm-up, momentum and betas of each."""
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
