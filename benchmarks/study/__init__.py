"""The study behind docs/results.md: every optimizer tuned alike, then compared on fresh seeds."""
