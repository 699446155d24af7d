"""The page says the same in HTML and in Markdown, and no name can break it."""

import re

from ramengpt.comparison.page import (
    SAME,
    html_page,
    markdown_page,
    markdown_table,
    write_comparison,
)
from ramengpt.comparison.pictures import loss_pictures
from ramengpt.comparison.tables import TextTable
from tests.comparison.made_up import compared

RUNS = [
    compared("<b>first</b>", [6.0, 5.0], optimizer="adam"),
    compared("second|run", [6.0, 4.5], optimizer="bam"),
]


def cells(html: str) -> list[str]:
    return re.findall(r"<t[hd]>(.*?)</t[hd]>", html)


def test_names_are_escaped():
    page = html_page(RUNS, [])
    assert "<b>first" not in page and "&lt;b&gt;first&lt;/b&gt;" in page
    assert r"| second\|run | 4.5000 |" in markdown_page(RUNS, [])


def test_both_pages_hold_the_same_cells():
    html, markdown = html_page(RUNS, []), markdown_page(RUNS, [])
    for cell in ("4.5000", "-0.5000", "validation loss 5.0000 after"):
        assert cell in cells(html)
        assert f"| {cell} |" in markdown
    assert markdown.count("| optimizer | adam | bam |") == 1


def test_equal_parameters_are_said_to_be_equal():
    runs = [compared("a", [5.0], seed=1), compared("b", [4.0], seed=1)]
    assert SAME in html_page(runs, []) and SAME in markdown_page(runs, [])
    assert SAME not in html_page(RUNS, [])


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
    assert len(linked) == len(loss_pictures(RUNS)) == 2
    assert {tmp_path / "results" / path for path in linked} <= set(files)
    assert all(path.stat().st_size for path in files)
