"""What measures speed. `python -m benchmarks` runs all parts; each is also a module of its own."""
