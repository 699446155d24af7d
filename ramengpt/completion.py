"""Print a script that completes commands, flags and files in a shell.

Type the lines of your shell once, and start a new one.

    bash:  ramengpt completion bash > ~/.ramengpt-completion
           echo 'source ~/.ramengpt-completion' >> ~/.bashrc

    zsh:   mkdir -p ~/.zfunc; ramengpt completion zsh > ~/.zfunc/_ramengpt
           echo 'fpath+=~/.zfunc; autoload -U compinit; compinit' >> ~/.zshrc

    fish:  mkdir -p ~/.config/fish/completions
           ramengpt completion fish > ~/.config/fish/completions/ramengpt.fish
"""

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from ramengpt.cli import command_parser, run_main
from ramengpt.commands import COMMANDS, summary_of

SHELLS = ("bash", "zsh", "fish")


def whole_parser() -> argparse.ArgumentParser:
    """The command line of all commands, each with its module's own flags."""
    root = argparse.ArgumentParser(prog="ramengpt")
    commands = root.add_subparsers(metavar="COMMAND")
    for name, module in COMMANDS.items():
        own = importlib.import_module(module).parser()
        commands.add_parser(name, help=summary_of(module), parents=[own], add_help=False)
    return root


def completion(shell: str) -> str:
    """A script that completes commands, flags and, where a path is expected, files."""
    import shtab

    parser = whole_parser()
    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell=shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    flags = command_parser("ramengpt.completion", __doc__)
    flags.add_argument("shell", choices=SHELLS, help="that will complete them")
    return flags


def main() -> None:
    """Print the script."""
    sys.stdout.write(completion(parser().parse_args().shell))


if __name__ == "__main__":
    run_main(main)
