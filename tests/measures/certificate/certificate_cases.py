"""Problems for the certificate, and the oracle: every point of a fine grid."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np

from faithattn.measures.certificate.problem import Array, Constraint, Problem


def case(
    length: int,
    n_outputs: int,
    seed: int,
    output: str = "softmax",
    *,
    n_rows: int = 1,
    epsilon: float = 0.05,
    spread: float = 2.0,
    **further: Any,
) -> Problem:
    """Random rows and scores."""
    generator = np.random.default_rng([length, n_outputs, seed])
    weights = np.exp(1.5 * generator.normal(size=(n_rows, length)))
    scores = spread * generator.normal(size=(n_rows, length, n_outputs))
    constant = generator.normal(size=n_outputs)
    attention = weights / weights.sum(-1, keepdims=True)
    return Problem(attention, scores, constant, output, epsilon, **further)


@functools.cache
def simplex(length: int, steps: int) -> Array:
    """All weights that are multiples of 1 / steps, ``(K, length)``."""
    cuts = itertools.combinations_with_replacement(range(steps + 1), length - 1)
    return np.diff(np.array([(0, *cut, steps) for cut in cuts]), axis=1) / steps


STEPS = {1: 1, 2: 2000, 3: 150, 4: 45}
STEPS_OF_TWO_ROWS = {1: 1, 2: 150, 3: 18}


def grid(n_rows: int, length: int) -> Array:
    """Rows ``(K, n_rows, length)``."""
    if n_rows == 1:
        return simplex(length, STEPS[length])[:, None]
    points = simplex(length, STEPS_OF_TWO_ROWS[length])
    pairs = np.array(list(itertools.product(range(len(points)), repeat=2)))
    return points[pairs]


def resolution(n_rows: int, length: int) -> float:
    """How much a divergence can change between a point and the nearest of the grid."""
    step = 1 / (STEPS if n_rows == 1 else STEPS_OF_TWO_ROWS)[length]
    return length * (step * math.log(1 / step) / 2 + step)


def divergence(points: Array, attention: Array) -> Array:
    """Mean over the rows, from its definition."""
    middle = (points + attention) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [
            np.where(p > 0, p * np.log(p / middle), 0) for p in (points, attention + 0 * points)
        ]
    return (parts[0] + parts[1]).sum(-1).mean(-1) / 2


def change(points: Array, problem: Problem) -> Array:
    """Distance of the output, from its definition."""

    def output(rows: Array) -> Array:
        logits = np.einsum("...rt,rtc->...c", rows, problem.scores) + problem.constant
        if problem.output == "identity":
            return logits
        if problem.output == "sigmoid":
            return 1 / (1 + np.exp(-logits))
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        return odds / odds.sum(-1, keepdims=True)

    moved = abs(output(points) - output(problem.attention))
    return moved.sum(-1) / 2 if problem.output == "softmax" else moved.mean(-1)


def best_of_grid(problem: Problem, slack: float = 0.0) -> float:
    """The farthest point of the grid that is allowed, constraints loosened by some slack."""
    points = grid(*problem.attention.shape)
    shape = problem.attention.shape
    lower, upper = (np.broadcast_to(x, shape) for x in (problem.lower, problem.upper))
    allowed = change(points, problem) <= problem.epsilon + slack
    allowed &= ((points >= lower - slack) & (points <= upper + slack)).all((1, 2))
    for constraint in problem.concave:
        allowed &= np.array([constraint(point)[0] for point in points]) >= -10 * slack
    return float(divergence(points, problem.attention)[allowed].max(initial=0))


def best_of_all_directions(problem: Problem, n_directions: int = 4000) -> float:
    """For one row of three weights: the farthest allowed point of each ray from the original.

    The divergence grows along a ray. The last of 300 steps that is allowed is
    refined by bisection, so that only the angle is as coarse as the grid.
    """
    angles = np.linspace(0, 2 * math.pi, n_directions, endpoint=False)[:, None]
    basis = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]) / np.array([[2**0.5], [6**0.5]])
    ways = np.cos(angles) * basis[0] + np.sin(angles) * basis[1]
    origin = problem.attention
    with np.errstate(divide="ignore"):
        longest = np.where(ways < 0, -origin / ways, math.inf).min(-1)

    def allowed(lengths: Array) -> Array:
        points = origin + lengths[..., None] * ways
        return change(points[..., None, :], problem) <= problem.epsilon

    steps = np.linspace(0, 1, 301)[:, None] * longest
    last = 300 - allowed(steps)[::-1].argmax(0)
    low = np.take_along_axis(steps, last[None], 0)[0]
    high = np.take_along_axis(steps, np.minimum(last + 1, 300)[None], 0)[0]
    for _ in range(40):
        middle = (low + high) / 2
        low, high = np.where(allowed(middle), [middle, high], [low, middle])
    points = np.maximum(origin + low[:, None] * ways, 0)
    return float(divergence(points[:, None], origin).max())


def entropy_floor(floor: float) -> Constraint:
    """At least this entropy, summed over the rows."""

    def value(rows: Array) -> tuple[float, Array]:
        with np.errstate(divide="ignore"):
            logs = np.log(rows)
        return float(-(rows * np.where(rows > 0, logs, 0)).sum() - floor), -logs - 1

    return value
