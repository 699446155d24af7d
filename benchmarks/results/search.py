"""Search an optimizer's best learning rates, for the hidden matrices and for the embeddings.

A pattern search (Hooke and Jeeves, 1961) over factors of two: starting from a grid, the
neighbours of the best point are tried until none is better.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

STEP = 2.0


class Point(NamedTuple):
    """A pair of learning rates."""

    learning_rate: float
    """Of the hidden matrices."""
    embedding_rate: float
    """Of embeddings and head."""

    def neighbours(self) -> list["Point"]:
        """One step in each direction."""
        rate, embedding_rate = self
        return [
            Point(rate / STEP, embedding_rate),
            Point(rate * STEP, embedding_rate),
            Point(rate, embedding_rate / STEP),
            Point(rate, embedding_rate * STEP),
        ]


def grid(learning_rates: Iterable[float], embedding_rates: Iterable[float]) -> list[Point]:
    """All combinations."""
    return [Point(*each) for each in product(learning_rates, embedding_rates)]


def points_to_try(first: list[Point], losses: Mapping[Point, float]) -> list[Point]:
    """All points that the search has asked for so far, tried or not.

    Args:
        first: the initial grid.
        losses: of the points tried; infinite where a run failed.
    """
    points = list(first)
    while all(point in losses for point in points):
        best = min(points, key=lambda point: losses[point])
        new = [point for point in best.neighbours() if point not in points]
        if not new or losses[best] == math.inf:
            break
        points += new
    return points
