"""A page of docs whose table a command makes again, between two marks."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

END = "<!-- end -->\n"


def with_table(before: str, begin: str, lines: Iterable[str]) -> str:
    """The page with other lines between the marks `begin` and `END`."""
    head, _, rest = before.partition(begin)
    return f"{head}{begin}\n{''.join(lines)}\n{END}{rest.partition(END)[2]}"


def rewrite(file: Path, page: Callable[[str], str], description: str) -> None:
    """Be a command without arguments that makes a page again; its help is the first line."""
    argparse.ArgumentParser(description=description.split("\n", maxsplit=1)[0]).parse_args()
    file.write_text(page(file.read_text()))
