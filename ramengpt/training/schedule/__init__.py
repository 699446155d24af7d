"""Everything that changes during a run, as functions of the step."""
