"""Schedules, the step, the loop, validation, checkpoints, tracking and sampling."""
