"""From indexed shards to micro-batches on the device."""
