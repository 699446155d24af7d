"""What makes a run survive, and its record true: inputs, outputs, checkpoints, locks."""
