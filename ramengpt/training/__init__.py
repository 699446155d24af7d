"""A run: its schedule, the step, the loop, checkpoints and tracking."""
