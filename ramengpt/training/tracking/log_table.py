"""A growing table of numbers, written as the tab-separated text that DVC plots.

Rows are kept as text: a step of a long run takes about 200 bytes of memory, and a table restored
from a checkpoint is written again bit for bit.
"""

from collections.abc import Mapping


class LogTable:
    """Rows of named numbers, in the order they were logged.

    A column is added by the first row that has it; rows without a value leave its cell empty.

    Args:
        text: a table from :meth:`text`, to append to.
    """

    def __init__(self, text: str = "") -> None:
        header, *self._lines = text.splitlines() if text else [""]
        self._columns = header.split("\t") if header else []
        self.last = self.rows()[-1] if self._lines else {}

    def __len__(self) -> int:
        return len(self._lines)

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row.

        Args:
            row: values by column, finite or not; integers stay integers.
        """
        new_columns = [name for name in row if name not in self._columns]
        if new_columns:
            self._columns += new_columns
            padding = "\t" * len(new_columns) if len(self._columns) > len(new_columns) else ""
            self._lines = [line + padding for line in self._lines]
        self._lines.append("\t".join(_cell(row.get(name)) for name in self._columns))
        self.last = dict(row)

    def text(self) -> str:
        """The whole table: a header, then one line per row; empty before the first row."""
        if not self._lines:
            return ""
        return "\n".join(["\t".join(self._columns), *self._lines]) + "\n"

    def rows(self) -> list[dict[str, float]]:
        """All rows as numbers, without their empty cells."""
        return [self._parse(line) for line in self._lines]

    def _parse(self, line: str) -> dict[str, float]:
        cells = zip(self._columns, line.split("\t"), strict=True)
        return {name: _number(cell) for name, cell in cells if cell}


def _cell(value: float | None) -> str:
    """Nine significant digits: enough to restore every float32 exactly."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.9g}"


def _number(cell: str) -> float:
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)
