"""One command for all of them: `ramengpt train` is `python -m pipeline.train`, and so on."""

import ast
import importlib.util
import os
import runpy
import sys
from pathlib import Path

from ramengpt.cli import run_main
from ramengpt.errors import UserError, shown

STAGES = {
    "check": "pipeline.check",
    "download": "pipeline.download",
    "verify": "pipeline.verify",
    "index": "pipeline.index",
    "train": "pipeline.train",
    "sample": "pipeline.sample",
}
TOOLS = {
    "summary": "ramengpt.model.summary",
    "generate": "ramengpt.inference.generate",
    "evaluate": "ramengpt.inference.evaluate",
    "compare": "ramengpt.comparison.__main__",
    "share": "ramengpt.inference.share",
    "unresumable": "ramengpt.training.session.unresumable",
    "completion": "ramengpt.completion",
}
COMMANDS = STAGES | TOOLS
"""Name -> module that `python -m` runs."""


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
    groups = {"stages, as `dvc repro` runs them": STAGES, "tools": TOOLS}
    lines = ["usage: ramengpt COMMAND [ARGUMENT ...]"]
    for title, commands in groups.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<12} {summary_of(module)}" for name, module in commands.items()]
    lines += ["", "Run it in the project's folder. `ramengpt COMMAND --help` explains a command."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run one command with the rest of the command line.

    Raises:
        UserError: there is no such command.
    """
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(help_text())
    elif name in COMMANDS:
        sys.argv = [f"ramengpt {name}", *rest]
        runpy.run_module(COMMANDS[name], run_name="__main__", alter_sys=False)
    else:
        raise UserError(f"no command {shown(name)}; `ramengpt --help` lists them")


def entry() -> None:
    """What the installed script calls: `python -m`, for which the code of this folder is first."""
    os.execv(sys.executable, [sys.executable, "-m", "ramengpt.commands", *sys.argv[1:]])


if __name__ == "__main__":
    run_main(main)
