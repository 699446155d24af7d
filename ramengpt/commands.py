"""One command for all of them: `ramengpt train` is `python -m pipeline.train`, and so on.

Run it in the project's folder, as the modules themselves. `ramengpt completion bash` (or zsh, fish)
prints what that shell needs to complete commands, flags and files (docs/requirements.md).
"""

import argparse
import ast
import importlib
import importlib.util
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

from ramengpt.cli import run_main
from ramengpt.errors import UserError, shown

COMMANDS = {
    "check": "pipeline.check",
    "download": "pipeline.download",
    "verify": "pipeline.verify",
    "index": "pipeline.index",
    "train": "pipeline.train",
    "sample": "pipeline.sample",
    "summary": "ramengpt.model.summary",
    "generate": "ramengpt.inference.generate",
    "evaluate": "ramengpt.inference.evaluate",
    "share": "ramengpt.inference.share",
    "compare": "ramengpt.comparison.__main__",
    "unresumable": "ramengpt.training.session.unresumable",
}
"""Name -> module that `python -m` runs."""
SHELLS = ("bash", "zsh", "fish")
COMPLETION = f"Print what a shell needs to complete all this: {', '.join(SHELLS)}."


def summary_of(module: str) -> str:
    """First sentence of a module's docstring, without importing the module.

    Raises:
        UserError: there is no such module here.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"{module}: not found; run ramengpt in the project's folder")
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


def help_text() -> str:
    """All commands, a line each."""
    lines = [f"  {name:<12} {summary_of(module)}" for name, module in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ramengpt COMMAND ...; `ramengpt COMMAND --help` has the flags of one",
            "",
            *lines,
            f"  {'completion':<12} {COMPLETION}",
            "",
        ]
    )


def whole_parser() -> argparse.ArgumentParser:
    """The command line of all commands, each with its module's own flags."""
    root = argparse.ArgumentParser(prog="ramengpt")
    commands = root.add_subparsers(metavar="COMMAND")
    for name, module in COMMANDS.items():
        own = importlib.import_module(module).parser()
        commands.add_parser(name, help=summary_of(module), parents=[own], add_help=False)
    shells = commands.add_parser("completion", help=COMPLETION)
    shells.add_argument("shell", choices=SHELLS)
    return root


def completion(shell: str) -> str:
    """A script that completes commands, flags and, where a path is expected, files.

    Raises:
        UserError: it is for another shell.
    """
    import shtab

    if shell not in SHELLS:
        raise UserError(f"completion: expected {', '.join(SHELLS)}, found {shown(shell)}")
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


def main() -> None:
    """Run one command with the rest of the command line.

    Raises:
        UserError: there is no such command.
    """
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(help_text())
    elif name == "completion":
        sys.stdout.write(completion(rest[0] if rest else ""))
    elif name in COMMANDS:
        sys.argv = [f"ramengpt {name}", *rest]
        runpy.run_module(COMMANDS[name], run_name="__main__", alter_sys=False)
    else:
        raise UserError(f"no command {shown(name)}; `ramengpt --help` lists them")


def entry() -> None:
    """What the installed script calls; modules of the current folder come first, as for -m."""
    sys.path.insert(0, str(Path.cwd()))
    run_main(main)


if __name__ == "__main__":
    entry()
