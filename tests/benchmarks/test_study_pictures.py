"""The pictures of docs/ show the study's record."""

import re
from pathlib import Path
from statistics import fmean
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.run_record import read_record
from benchmarks.study.pictures import SHOWN_FROM, write_pictures
from benchmarks.study.tables import BASELINES, arms_of
from tests.conftest import ROOT

ABOUT, ENTRIES = read_record(ROOT / "docs/results/study_base.json")
ARMS = arms_of(ABOUT, ENTRIES, 1)
SPEEDS = {
    name: ENTRIES[f"{name}-timed"]["tokens_per_second"]
    for name in ARMS
    if f"{name}-timed" in ENTRIES
}
DIVISORS = {"tokens": dict.fromkeys(ARMS, 1.0), "seconds": SPEEDS}


def marks(svg: str) -> dict[str, np.ndarray]:
    """Coordinates of every curve and dot, by its name."""
    found = {}
    for group in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):
        if re.match(r"curve-|dot-", group.get("id", "")):
            mark = list(group.iter())[-1]
            at = mark.get("d") or f"{mark.get('x')} {mark.get('y')}"
            points = np.array(re.findall(r"-?\d+\.?\d*", at), float).reshape(-1, 2)
            found[group.get("id")] = points[points[:, 1] >= 0]  # the others are cut off at the top
    return found


@pytest.mark.parametrize("unit", DIVISORS)
def test_the_curves_are_the_records_means(unit: str) -> None:
    drawn = marks((ROOT / f"docs/pictures/study_by_{unit}.svg").read_text())
    shown = {name.removeprefix("curve-") for name in drawn if name.startswith("curve-")}
    assert shown == DIVISORS[unit].keys()
    on_page, in_record = [], []
    for name, divisor in DIVISORS[unit].items():
        runs = [run["validation"] for run in ARMS[name].values()]
        points = [(each[0][0], fmean(loss for _, loss in each)) for each in zip(*runs, strict=True)]
        last = points[-1][0]
        points = [(at / divisor, loss) for at, loss in points if at >= SHOWN_FROM * last]
        curve = drawn[f"curve-{name}"]
        assert len(curve) == len(points) if name != BASELINES[0] else 2 <= len(curve) <= len(points)
        in_record += points[-len(curve) :]
        on_page += list(curve)
    for axis in (0, 1):
        page, record = np.array(on_page)[:, axis], np.array(in_record)[:, axis]
        slope, start = np.polyfit(record, page, 1)
        np.testing.assert_allclose(slope * record + start, page, atol=0.01)


def test_drawing_them_again_changes_nothing(tmp_path: Path) -> None:
    write_pictures(tmp_path, ABOUT, ENTRIES)
    for drawn in tmp_path.iterdir():
        committed = (ROOT / "docs/pictures" / drawn.name).read_text()
        assert re.findall("<!--(.*)-->", committed) == re.findall("<!--(.*)-->", drawn.read_text())
        for name, points in marks(drawn.read_text()).items():
            np.testing.assert_allclose(marks(committed)[name], points, atol=0.01)
