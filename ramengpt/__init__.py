"""ramengpt: train small GPTs on one GPU, reproducibly."""
