"""Where each document of a shard starts."""
