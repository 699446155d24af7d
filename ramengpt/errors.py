"""The one error that users see: a single line that says what, where, and what to do."""


class UserError(ValueError):
    """Something the user can mend: bad input, a damaged file, a missing network.

    The message is one line: what is wrong, where, what was expected, what was found, what to do.
    """

    exit_status = 1
    """What a command that ends with this error tells the shell."""
