"""What a study compares: optimizers, each alone or with a hook, and where each is searched."""

from dataclasses import dataclass
from functools import lru_cache

from benchmarks.study.space import HOOKS, OWN, RATE, RATES, SHARED, Dimension, Space, Values
from ramengpt.config import Config, load_config
from ramengpt.errors import UserError

STAGES = ("rates", "rest")
"""In which a search takes place: the values of the second are found at the best of the first."""


@dataclass(frozen=True)
class Arm:
    """An optimizer, perhaps with a hook.

    Attributes:
        name: `OPTIMIZER` or `OPTIMIZER+HOOK`.
    """

    name: str

    @property
    def optimizer(self) -> str:
        """Entry of `optimizers`."""
        return self.name.partition("+")[0]

    @property
    def hook(self) -> str:
        """Entry of `hooks`, or nothing."""
        return self.name.partition("+")[2]

    def space(self, stage: str) -> Space:
        """Where a stage's search begins."""
        if stage == "rates":
            return RATES[self.optimizer]
        hook = HOOKS[self.hook][1] if self.hook else ()
        return (*SHARED, *OWN[self.optimizer], *hook)

    def settings(self, values: Values) -> tuple[str, ...]:
        """What selects the arm at a point of its space; the hook acts at every point."""
        switch, strengths = HOOKS[self.hook] if self.hook else ((), ())
        values = {each.name: each.at(0.5) for each in strengths} | dict(values)
        found = [
            setting
            for stage in STAGES
            for dimension in self.space(stage)
            if dimension.name in values
            for setting in dimension.settings(values[dimension.name], self.optimizer, values[RATE])
        ]
        return (f"optimizer={self.optimizer}", *switch, *found)


@lru_cache(maxsize=100)
def start_of(arm: Arm, settings: tuple[str, ...]) -> Values:
    """Where the search of an arm begins: at params.yaml's values, by the dimensions' names.

    Args:
        arm: any.
        settings: of the task, `key=value` each.
    """
    config = load_config([*settings, f"optimizer={arm.optimizer}"])
    return {
        dimension.name: _value_in(config, dimension)
        for stage in STAGES
        for dimension in arm.space(stage)
    }


def _value_in(config: Config, dimension: Dimension) -> float:
    """What a run of params.yaml uses; of a hook, which is off there, the middle of the range."""
    section, *_, key = dimension.keys[-1].split(".")
    if section == "hooks":
        return dimension.at(0.5)
    embeddings = config.embedding_adam.learning_rate
    in_use = {
        "peak": lambda: config.optimizer.momentum.peak,
        "warmup_steps": lambda: config.schedule.learning_rate.warmup_steps,
        "embedding_learning_rate": lambda: embeddings,
        "head_learning_rate": lambda: config.optimizer.head_learning_rate or embeddings,
        "scalar_learning_rate": lambda: config.scalar_adam.learning_rate,
        "end": lambda: config.optimizer.momentum.end,
    }
    value = float(in_use[key]() if key in in_use else getattr(config.optimizer, key))
    if dimension.rate_power:
        value *= config.optimizer.learning_rate**dimension.rate_power
    return float(f"{1 - value:.3g}") if dimension.from_one else value


def arm_called(name: str) -> Arm:
    """Parse an arm's name.

    Raises:
        UserError: there is no such optimizer or hook.
    """
    arm = Arm(name)
    if arm.optimizer not in RATES:
        raise UserError(f"--arms: no optimizer {arm.optimizer!r}; there are {', '.join(RATES)}")
    if "+" in name and arm.hook not in HOOKS:
        raise UserError(f"--arms: no hook {arm.hook!r}; there are {', '.join(HOOKS)}")
    return arm
