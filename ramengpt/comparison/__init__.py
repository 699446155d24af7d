"""Compare runs: read them from revisions, tabulate, plot, and write one page."""
