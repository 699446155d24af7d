"""What makes a run survive: checkpoints, folders, lock, settings, fingerprint."""
