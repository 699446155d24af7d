"""The page says the same in HTML and in Markdown, and no name can break it."""

import re

from ramengpt.comparison.page import (
    GROUPS_LEGEND,
    LEGEND,
    SAME,
    html_page,
    markdown_page,
    markdown_table,
    write_comparison,
)
from ramengpt.comparison.pictures import loss_pictures
from ramengpt.comparison.tables import TextTable
from tests.comparison.made_up import compared, grouped

RUNS = [
    compared("<b>first</b>", [6.0, 5.0], optimizer="adam"),
    compared("second|run", [6.0, 4.5], optimizer="bam"),
]
GROUPS = grouped(*RUNS)


def cells(html: str) -> list[str]:
    return re.findall(r"<t[hd]>(.*?)</t[hd]>", html)


def test_names_are_escaped():
    page = html_page(GROUPS, [])
    assert "<b>first" not in page and "&lt;b&gt;first&lt;/b&gt;" in page
    assert r"| second\|run | 4.5000 |" in markdown_page(GROUPS, [])


def test_both_pages_hold_the_same_cells():
    html, markdown = html_page(GROUPS, []), markdown_page(GROUPS, [])
    for cell in ("4.5000", "-0.5000", "validation loss 5.0000 after"):
        assert cell in cells(html)
        assert f"| {cell} |" in markdown
    assert markdown.count("| optimizer | adam | bam |") == 1


def test_equal_parameters_are_said_to_be_equal():
    runs = grouped(compared("a", [5.0], seed=1), compared("b", [4.0], seed=1))
    assert SAME in html_page(runs, []) and SAME in markdown_page(runs, [])
    assert SAME not in html_page(GROUPS, [])


def test_a_table_in_markdown_has_a_rule_of_its_width():
    table = TextTable(["run", "loss", "time"], [["a", "1", "two\nlines"]])
    assert markdown_table(table).splitlines() == [
        "| run | loss | time |",
        "| --- | ---: | ---: |",
        "| a | 1 | two lines |",
    ]


def test_everything_that_the_markdown_links_is_written(tmp_path):
    files = write_comparison(RUNS, tmp_path / "results")
    assert files[0].name == "compare.html"
    text = (tmp_path / "results/compare.md").read_text()
    linked = re.findall(r"\]\((\S+)\)", text)
    assert len(linked) == len(loss_pictures(GROUPS)) == 2
    assert {tmp_path / "results" / path for path in linked} <= set(files)
    assert all(path.stat().st_size for path in files)


def test_groups_have_their_own_legend():
    several = grouped(*RUNS, compared("<b>first</b>2", [6.0, 5.1], optimizer="adam", seed=2))
    assert LEGEND in markdown_page(several, [])
    groups = grouped(*(compared(f"a{seed}", [6.0, 5.0], seed=seed) for seed in (1, 2)))
    assert GROUPS_LEGEND in markdown_page(groups, []) and "± half the width" in html_page(
        groups, []
    )
