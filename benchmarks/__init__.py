"""Benchmarks. `python -m benchmarks` runs all parts; each can also be run as a module."""
