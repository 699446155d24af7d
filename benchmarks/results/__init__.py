"""The study behind docs/results.md: five optimizers, and an ablation of the network."""
