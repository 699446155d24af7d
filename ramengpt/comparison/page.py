"""Write a comparison as one self-contained HTML page, and as Markdown."""

import base64
import html
from pathlib import Path

from ramengpt.comparison.groups import RunGroup, group_runs
from ramengpt.comparison.pictures import Picture, loss_pictures
from ramengpt.comparison.runs import ComparedRun
from ramengpt.comparison.tables import (
    TextTable,
    has_several_runs,
    params_table,
    reached_table,
    results_table,
)
from ramengpt.files import write_bytes

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .35rem .5rem; text-align: right; border-bottom: 1px solid #ddd; }
th { font-weight: 600; border-bottom: 2px solid #888; }
th:first-child, td:first-child { text-align: left; }
tbody tr:hover { background: #f5f7fa; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); gap: 1rem; }
img { width: 100%; }
p { color: #555; }
"""
SAME = "The runs have the same parameters."
LEGEND = "Δ: difference from the first run."
GROUPS_LEGEND = (
    "Means over the runs that are the same but for the seed, ± half the width of the 95 % "
    "confidence interval. Δ: difference from the first row. p: of no difference in loss, by a "
    "paired t test where two or more seeds are common, else by Welch's, adjusted by Holm's method "
    "for all rows. Curves: means, with a band of one standard deviation on each side."
)


def write_comparison(runs: list[ComparedRun], folder: Path) -> list[Path]:
    """Write compare.html, compare.md and the pictures.

    Args:
        runs: at least one; the first is the baseline.
        folder: made if missing.

    Returns:
        The files, the page first.
    """
    groups = group_runs(runs)
    pictures = loss_pictures(groups)
    files = {
        folder / "compare.html": html_page(groups, pictures).encode(),
        folder / "compare.md": markdown_page(groups, pictures).encode(),
        **{folder / "compare" / picture.name: picture.svg for picture in pictures},
    }
    for path, content in files.items():
        write_bytes(path, content)
    return list(files)


def legend(groups: list[RunGroup]) -> str:
    """What the columns mean."""
    return GROUPS_LEGEND if has_several_runs(groups) else LEGEND


def html_page(groups: list[RunGroup], pictures: list[Picture]) -> str:
    """The page, with the pictures embedded."""
    title = html.escape(" · ".join(group.name for group in groups))
    images = "".join(
        f'<img alt="{html.escape(picture.title)}" '
        f'src="data:image/svg+xml;base64,{base64.b64encode(picture.svg).decode()}">'
        for picture in pictures
    )
    params = params_table(groups)
    reached = reached_table(groups)
    differences = _html_table(params) if params.rows else f"<p>{SAME}</p>"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>\n'
        f"<h1>{title}</h1>\n<h2>Results</h2>\n{_html_table(results_table(groups))}\n"
        f"<p>{html.escape(legend(groups))}</p>\n"
        f"{_html_table(reached) if reached.rows else ''}\n"
        f'<h2>Loss</h2>\n<div class="pictures">{images}</div>\n'
        f"<h2>Parameters that differ</h2>\n{differences}\n</body></html>\n"
    )


def markdown_page(groups: list[RunGroup], pictures: list[Picture]) -> str:
    """The page with links to the pictures' files."""
    params = params_table(groups)
    reached = reached_table(groups)
    parts = [
        f"# {' · '.join(_plain(group.name) for group in groups)}",
        "## Results",
        markdown_table(results_table(groups)),
        legend(groups),
        *([markdown_table(reached)] if reached.rows else []),
        "## Loss",
        *(f"![{picture.title}](compare/{picture.name})" for picture in pictures),
        "## Parameters that differ",
        markdown_table(params) if params.rows else SAME,
    ]
    return "\n\n".join(parts) + "\n"


def _html_table(table: TextTable) -> str:
    def row(cells: list[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "\n".join(row(cells, "td") for cells in table.rows)
    return (
        f'<div class="table"><table><thead>{row(table.header, "th")}</thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def markdown_table(table: TextTable) -> str:
    """The table in Markdown; all but its first column are aligned to the right."""
    align = ["---", *("---:" for _ in table.header[1:])]
    lines = [table.header, align, *table.rows]
    return "\n".join(f"| {' | '.join(map(_plain, cells))} |" for cells in lines)


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
