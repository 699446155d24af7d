"""The search goes to where all points around the best are worse, and only from what is known."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.results.search import Point, grid, points_to_try

FIRST = grid([1.0, 2.0, 4.0], [1.0, 2.0, 4.0])


def searched(losses: dict[Point, float], elsewhere: float = 5.0) -> list[Point]:
    """All points of a search whose runs all end, in the order in which they are asked for."""
    known: dict[Point, float] = {}
    while new := [point for point in points_to_try(FIRST, known) if point not in known]:
        known |= {point: losses.get(point, elsewhere) for point in new}
    return list(known)


def test_a_grid_is_all_combinations() -> None:
    assert grid([0.5, 3.0], [1.0, 2.0]) == [(0.5, 1.0), (0.5, 2.0), (3.0, 1.0), (3.0, 2.0)]


def test_neighbours_are_a_factor_of_two_away_in_one_of_both() -> None:
    expected = [(0.02, 1.0), (0.08, 1.0), (0.04, 0.5), (0.04, 2.0)]
    assert Point(0.04, 1.0).neighbours() == expected


@pytest.mark.parametrize(
    ("best", "more"),
    [
        ((2, 2), []),
        ((1, 2), [(0.5, 2)]),
        ((4, 2), [(8, 2)]),
        ((2, 1), [(2, 0.5)]),
        ((2, 4), [(2, 8)]),
        ((1, 1), [(0.5, 1), (1, 0.5)]),
        ((4, 4), [(8, 4), (4, 8)]),
    ],
)
def test_a_search_grows_where_its_best_lies_at_a_side(
    best: tuple[float, float], more: list[tuple[float, float]]
) -> None:
    assert searched({Point(*best): 4.0}) == [*FIRST, *more]


@pytest.mark.parametrize(
    ("losses", "more"),
    [
        # Right, then up, and no further.
        (
            {(4, 4): 4.0, (8, 4): 3.9, (8, 8): 3.8},
            [(8, 4), (4, 8), (16, 4), (8, 2), (8, 8), (16, 8), (8, 16)],
        ),
        # Of two that are better, from the best.
        (
            {(1, 1): 4.0, (0.5, 1): 3.9, (1, 0.5): 3.8},
            [(0.5, 1), (1, 0.5), (0.5, 0.5), (2, 0.5), (1, 0.25)],
        ),
    ],
)
def test_a_search_goes_on_from_each_new_best(
    losses: dict[tuple[float, float], float], more: list[tuple[float, float]]
) -> None:
    assert searched({Point(*at): loss for at, loss in losses.items()}) == [*FIRST, *more]


def test_a_search_ends_beside_a_failure_and_never_grows_from_one() -> None:
    assert searched({Point(4, 2): 4.0, Point(8, 2): inf}) == [*FIRST, (8, 2)]
    assert searched({Point(1, 1): 4.0}, elsewhere=inf) == [*FIRST, (0.5, 1), (1, 0.5)]
    assert searched({Point(2, 2): 4.0}, elsewhere=inf) == FIRST
    assert searched({}, elsewhere=inf) == FIRST


def test_equal_losses_end_a_search() -> None:
    assert searched({Point(4, 2): 4.0, Point(8, 2): 4.0}) == [*FIRST, (8, 2)]
    assert searched({}) == [*FIRST, (0.5, 1), (1, 0.5)]  # the first point is as good as any


@pytest.mark.parametrize("going_on", FIRST)
def test_a_search_grows_only_once_all_of_its_first_runs_have_ended(going_on: Point) -> None:
    losses = dict.fromkeys(FIRST, 5.0) | {Point(1, 1): 4.0}
    assert len(points_to_try(FIRST, losses)) == len(FIRST) + 2
    del losses[going_on]
    assert points_to_try(FIRST, losses) == FIRST


def test_a_search_goes_on_only_once_all_neighbours_have_ended() -> None:
    losses = dict.fromkeys(FIRST, 5.0) | {Point(1, 1): 4.0, Point(0.5, 1): 3.0}
    assert points_to_try(FIRST, losses) == [*FIRST, (0.5, 1), (1, 0.5)]
    losses[Point(1, 0.5)] = inf
    onwards = [(0.25, 1), (0.5, 0.5), (0.5, 2)]
    assert points_to_try(FIRST, losses) == [*FIRST, (0.5, 1), (1, 0.5), *onwards]


POWERS = [2.0**power for power in range(-2, 5)]
LANDSCAPES = st.fixed_dictionaries(
    {point: st.just(inf) | st.integers(0, 20) for point in grid(POWERS, POWERS)}
)


@settings(deadline=None)
@given(LANDSCAPES)
def test_no_search_stops_beside_a_better_point_or_strays_from_a_finished_one(
    losses: dict[Point, float],
) -> None:
    points = searched(losses, elsewhere=inf)
    assert len(set(points)) == len(points)
    known = {point: losses.get(point, inf) for point in points}
    best = min(points, key=lambda point: known[point])
    assert known[best] == inf or set(best.neighbours()) <= set(points)
    for point in points[len(FIRST) :]:
        assert any(known.get(each, inf) < inf for each in point.neighbours())
