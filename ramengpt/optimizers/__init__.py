"""Update rules for the three groups of parameters."""

from ramengpt.optimizers.build import build_optimizers
from ramengpt.optimizers.optimizer_set import OptimizerSet

__all__ = ["OptimizerSet", "build_optimizers"]
