"""Follow a run: rows for DVC's metrics and plots, and for Weights & Biases."""
