"""The entry point of every command: user errors end in one line, not a traceback."""

import os
import sys
from collections.abc import Callable

from ramengpt.errors import UserError


def run_main(main: Callable[[], None]) -> None:
    """Run a command's main function and turn its end into an exit status.

    Args:
        main: the command; parses its own arguments.

    Raises:
        SystemExit: the error's own status after a :class:`UserError` (printed as one line on
            standard error), 130 after Ctrl-C, 141 when
            whoever read standard output has gone, as for any command that SIGPIPE ends.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(error.exit_status) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
