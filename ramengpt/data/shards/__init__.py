"""Token shards on disk: format, store, manifest, provenance, verification."""
