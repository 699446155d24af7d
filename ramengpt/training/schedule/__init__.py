"""From a step's number to what the step is."""
