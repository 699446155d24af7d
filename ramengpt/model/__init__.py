"""The network: embedding, blocks, head, and what initialises and labels their parameters."""
