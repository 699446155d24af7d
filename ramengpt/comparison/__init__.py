"""Hold runs against each other: read them from revisions, tabulate, draw, lay out as a page."""
