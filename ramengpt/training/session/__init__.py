"""What lets a run survive a kill and keeps its record true: inputs, outputs, checkpoints, locks."""
