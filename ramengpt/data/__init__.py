"""Shards, index and batches: from tokens on disk to tensors on the device."""
