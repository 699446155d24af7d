"""Follow a run: rows for DVC's metrics and plots, and for Weights & Biases."""

from ramengpt.training.tracking.tracker import Tracker

__all__ = ["Tracker"]
