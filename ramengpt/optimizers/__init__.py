"""Update rules for the three groups of parameters."""
