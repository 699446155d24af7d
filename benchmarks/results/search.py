"""Where an optimizer's best learning rates lie: of the hidden matrices, and of the embeddings.

A pattern search (Hooke and Jeeves, 1961) over factors of two: from a first grid on, the neighbours
of the best point are tried until none is better.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

STEP = 2.0


class Point(NamedTuple):
    """What is searched."""

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
    """All points that a search wants so far, tried or not.

    Args:
        first: the grid that it begins with.
        losses: of what was tried; infinite where it failed.
    """
    points = list(first)
    while all(point in losses for point in points):
        best = min(points, key=lambda point: losses[point])
        new = [point for point in best.neighbours() if point not in points]
        if not new or losses[best] == math.inf:
            break
        points += new
    return points
