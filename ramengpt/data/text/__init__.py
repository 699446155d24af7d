"""From files of text to a stream of tokens."""
