"""The head's fused loss: one file for each device and precision."""
