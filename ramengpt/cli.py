"""The entry point of every command: its flags, and a user error as one line, not a traceback."""

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

from ramengpt.errors import UserError, shortened, shown_path
from ramengpt.files import ADVICE, NO_FILES

MOST_CHARACTERS = 300
"""Of what a message quotes from the command line."""
_PLACES = dict.fromkeys(NO_FILES, "this process") | {errno.ENOENT: "the current folder"}
"""What an error of the system without a file is about."""


class Parser(argparse.ArgumentParser):
    """Reports a wrong flag in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"{shortened(message, MOST_CHARACTERS)} ({self.prog} --help lists the flags)"
        )


class _Paragraphs(argparse.HelpFormatter):
    """Keeps a docstring's paragraphs apart, and the lines of indented ones."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            paragraph
            if paragraph[:1] == " "
            else super(_Paragraphs, self)._fill_text(paragraph, width, indent)
            for paragraph in text.strip("\n").split("\n\n")
        )


def command_parser(module: str, docstring: str | None) -> Parser:
    """A command line that shows the name it was called by: `python -m` or `ramengpt`.

    Args:
        module: that `python -m` runs.
        docstring: the module's, which its help shows.

    Returns:
        A parser without flags.
    """
    called = sys.argv[0]
    program = called if called.startswith("ramengpt ") else f"python -m {module}"
    return Parser(prog=program, description=docstring, formatter_class=_Paragraphs)


class OptionalOutput(io.TextIOBase):
    """A stream that may fail without ending the work: once closed or full, it drops text.

    Args:
        stream: standard output or standard error; None where the command was started without.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if that is still possible."""
        self._attempt(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush if that is still possible."""
        self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """The stream's own descriptor."""
        return self._stream.fileno() if self._stream is not None else super().fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's own encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def _attempt(self, action: Callable[[TextIO], object]) -> None:
        if self._stream is None:
            return
        try:
            action(self._stream)
        except (OSError, ValueError):
            _discard(self._stream)
            self._stream = None


def run_main(main: Callable[[], None], *, output_is_optional: bool = False) -> None:
    """Run a command's main function and turn its end into an exit status.

    Args:
        main: the command; parses its own arguments.
        output_is_optional: its product is files, not what it prints, so it continues to the end
            when nobody reads its output any more.

    Raises:
        SystemExit: the error's own status after a :class:`UserError` or an error of the system
            about a file (printed as one line on standard error), 130 after Ctrl-C, 141 when
            whoever read standard output has gone, as for any command that SIGPIPE ends.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # as Python does it for standard error
        sys.stdout.reconfigure(errors="backslashreplace")
    if output_is_optional:
        sys.stdout, sys.stderr = OptionalOutput(sys.stdout), OptionalOutput(sys.stderr)
    try:
        main()
        if sys.stdout is not None:
            sys.stdout.flush()
    except UserError as error:
        _end(f"error: {error}", error.exit_status)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:
        _discard(sys.stdout)
        raise SystemExit(141) from None
    except OSError as error:
        advice = ADVICE.get(error.errno or 0)
        if advice is None:
            raise
        place = _PLACES.get(error.errno or 0, "the output")
        if error.filename is not None:
            place = shown_path(error.filename)
        elif place == "the output":
            _discard(sys.stdout)
        _end(f"error: {place}: {error.strerror}; {advice}, then run the same command again", 1)


def _end(line: str, status: int) -> None:
    """Say a last line and leave.

    Raises:
        SystemExit: always.
    """
    OptionalOutput(sys.stderr).write(f"{line}\n")
    raise SystemExit(status) from None


def _discard(stream: TextIO | None) -> None:
    """Discard what is still in a stream's buffer; Python would fail to flush it at exit."""
    try:
        descriptor = stream.fileno() if stream is not None else None
    except (OSError, ValueError):
        return  # one that a test put in its place
    if descriptor is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
