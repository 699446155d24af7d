"""Where tokens come from: docstrings, text files, and the Hub's shards and text."""
