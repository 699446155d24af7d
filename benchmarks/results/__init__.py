"""The study behind docs/results.md: five optimizers, and what each part of the network is worth."""
