"""Polynomials that bring singular values to 1: Polar Express, or Newton-Schulz.

All are odd quintics a x + b x^3 + c x^5. Of Polar Express, each is the closest one to the constant
1 on the interval into which those before it have sent the singular values; this greedy composition
is the best one of its length (Amsel et al., arXiv 2505.16932).
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from ramengpt.config.optimizer_blocks import NewtonSchulzConfig, PolarConfig

_CONVERGED_RATIO = 1 - 5e-6
_TOLERANCE = 1e-15
_MAXIMUM_EXCHANGES = 100


class Quintic(NamedTuple):
    """The odd polynomial a x + b x^3 + c x^5."""

    a: float
    b: float
    c: float

    def __call__(self, x: float) -> float:
        """Value at x."""
        return x * (self.a + x * x * (self.b + x * x * self.c))

    def scaled(self, factor: float) -> "Quintic":
        """The polynomial times a factor."""
        return Quintic(self.a * factor, self.b * factor, self.c * factor)

    def stretched(self, factor: float) -> "Quintic":
        """The polynomial of x / factor."""
        return Quintic(self.a / factor, self.b / factor**3, self.c / factor**5)


def best_quintic(lower: float, upper: float) -> Quintic:
    """The odd quintic closest to 1, in the largest error, on [lower, upper].

    Found by Remez exchange: the error has equal size and alternating sign at both ends and at the
    two extrema between them.

    Args:
        lower: start of the interval, above 0.
        upper: its end, at least `lower`.
    """
    if lower / upper > _CONVERGED_RATIO:
        return Quintic(15 / 8 / upper, -10 / 8 / upper**3, 3 / 8 / upper**5)
    left, right = (3 * lower + upper) / 4, (lower + 3 * upper) / 4
    error = np.inf
    for _ in range(_MAXIMUM_EXCHANGES):
        nodes = np.array([lower, left, right, upper])
        signs = np.array([1.0, -1.0, 1.0, -1.0])
        system = np.stack([nodes, nodes**3, nodes**5, signs], axis=1)
        a, b, c, new_error = np.linalg.solve(system, np.ones(4))
        root = np.sqrt(9 * b * b - 20 * a * c)
        left, right = np.sqrt((-3 * b - root) / (10 * c)), np.sqrt((-3 * b + root) / (10 * c))
        if abs(new_error - error) < _TOLERANCE:
            break
        error = new_error
    return Quintic(float(a), float(b), float(c))


@cache
def polar_express_coefficients(
    steps: int, lower_bound: float, cushion: float, safety: float
) -> tuple[Quintic, ...]:
    """The polynomials that bring singular values in [lower_bound, 1] close to 1.

    The last of them differs from the others, so a list for fewer steps is no prefix of this one.

    Args:
        steps: how many polynomials.
        lower_bound: smallest singular value that they are made for, between 0 and 1.
        cushion: a polynomial is made for no wider an interval than [cushion * upper, upper]; keeps
            the early ones from sending large values close to 0.
        safety: all but the last polynomial take x / safety, headroom for roundoff.
    """
    lower, upper = lower_bound, 1.0
    polynomials = []
    for step in range(steps):
        cushioned = max(lower, cushion * upper)
        polynomial = best_quintic(cushioned, upper)
        if cushioned > lower:
            polynomial = polynomial.scaled(2 / (polynomial(lower) + polynomial(upper)))
        if step < steps - 1:
            polynomial = polynomial.stretched(safety)
        polynomials.append(polynomial)
        lower = min(polynomial(lower), 1.0)
        upper = 2 - lower
    return tuple(polynomials)


def polynomials(config: PolarConfig) -> tuple[tuple[Quintic, ...], float]:
    """The polynomials of a `polar` block, and the headroom that they need below norm 1."""
    if isinstance(config, NewtonSchulzConfig):
        return (Quintic(*config.coefficients),) * config.steps, 1.0
    coefficients = polar_express_coefficients(
        config.steps, config.lower_bound, config.cushion, config.safety
    )
    return coefficients, config.safety
