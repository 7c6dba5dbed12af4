"""Rows that are allowed, near rows that nearly are: restored, climbed from, shipped."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from faithattn.measures.certificate.problem import Array, Places, Problem
from faithattn.measures.certificate.programme import minimise

_STEPS = 6  # of linear programmes in a climb
_FRACTIONS = np.linspace(0, 1, 33)
_INSIDE = 1e-11  # of epsilon units, what rounding may add to a distance
# What a float32 model may see beyond the affine form, in units of its outputs.
_MARGINS = (3e-7, 3e-6, 3e-5, 3e-4)


class Found(NamedTuple):
    """Allowed rows ``(R, T)`` and their divergence."""

    rows: Array
    value: float


def settled(problem: Problem, rows: Array) -> Array:
    """Rows put on the simplex within the box, where they nearly are."""
    lower, upper = problem.box
    rows = np.clip(rows, lower, upper)
    missing = 1 - rows.sum(-1, keepdims=True)
    room = np.where(missing > 0, upper - rows, rows - lower)
    share = missing / np.maximum(room.sum(-1, keepdims=True), 1e-300)
    found: Array = np.clip(rows + np.clip(share, -1, 1) * room, lower, upper)
    return found


def restored(problem: Problem, rows: Array, margin: float = 0.0) -> Found:
    """The farthest allowed rows between the original and rows of the box."""
    margin = max(margin, _INSIDE * problem.epsilon)
    if problem.allows(rows, margin):
        return Found(rows, float(problem.divergence(rows)))
    low, high = 0.0, 1.0
    for _ in range(7):
        fractions = low + (high - low) * _FRACTIONS
        points = _between(problem, rows, fractions[:, None, None])
        allowed = np.flatnonzero(problem.distance(points) <= problem.epsilon - margin)
        last = int(allowed.max(initial=0))
        low, high = fractions[last], fractions[min(last + 1, len(fractions) - 1)]
    if problem.concave and not problem.allows(_between(problem, rows, low)):
        low = _last_allowed(problem, rows, low, margin)
    point = _between(problem, rows, low)
    return Found(point, float(problem.divergence(point)))


def _between(problem: Problem, rows: Array, share: float | Array) -> Array:
    """The given share of the way from the original; exactly the original at 0."""
    between: Array = problem.attention + share * (rows - problem.attention)
    return between


def _last_allowed(problem: Problem, rows: Array, high: float, margin: float) -> float:
    """Bisection; constraints that are concave hold on an interval from the original on."""
    low = 0.0
    for _ in range(45):
        middle = (low + high) / 2
        if problem.allows(_between(problem, rows, middle), margin):
            low = middle
        else:
            high = middle
    return low


def climbed(problem: Problem, start: Array, margin: float = 0.0) -> Found:
    """Local improvement of rows of the box that may miss the distance.

    The divergence is convex, so that its tangent's maximum over the linearised
    constraints improves on it; weights of 0 stay, where the slope is infinite.
    At the vertex that is reached the steps are Newton's towards the distance.
    """
    best, point, radius = restored(problem, start, margin), start, 1.0
    for _ in range(_STEPS):
        step = _step(problem, point, margin, radius)
        if step is None:
            break
        found = restored(problem, step, margin)
        moved = float(abs(step - point).max())
        if problem.distance(step) > 1.5 * problem.epsilon:
            radius = moved / 4
        gained = found.value - best.value
        best, point = (found if gained > 0 else best), step
        if moved < 1e-12 or (0 <= gained < 1e-10 and problem.allows(step, margin)):
            break
    return best


def _step(problem: Problem, point: Array, margin: float, radius: float) -> Array | None:
    """Maximum of the tangent over the linearised constraints, on the weights above 0."""
    lower, upper = problem.box
    (on,) = np.nonzero(point.ravel() > 0)
    at = point.ravel()[on]
    n_outputs = problem.scores.shape[-1]
    change, jacobian = _linearised(problem, point, on)
    unit = problem.epsilon
    ones = np.eye(n_outputs)
    sums = np.kron(np.eye(len(point)), np.ones(point.shape[1]))[:, on]
    equal = np.block([[sums, np.zeros((len(sums), 2 * n_outputs))], [jacobian / unit, -ones, ones]])
    equal_to = np.concatenate([np.ones(len(sums)), (jacobian @ at - change) / unit])
    rows, right = _further(problem, point, on)
    total = (2 if problem.output == "softmax" else n_outputs) * (problem.epsilon - 2 * margin)
    rows = np.vstack([rows, np.concatenate([np.zeros(len(on)), np.ones(2 * n_outputs)])])
    low = np.maximum(lower.ravel()[on], at - radius)
    high = np.minimum(upper.ravel()[on], at + radius)
    found = minimise(
        np.concatenate([-problem.slope(point).ravel()[on], np.zeros(2 * n_outputs)]),
        rows,
        np.append(right, total / unit),
        equal,
        equal_to,
        np.concatenate([np.stack([low, high], 1), np.tile([0, math.inf], (2 * n_outputs, 1))]),
    )
    if not found.solved:
        return None
    moved = np.zeros(point.size)
    moved[on] = found.point[: len(on)]
    return settled(problem, moved.reshape(point.shape))


def _linearised(problem: Problem, point: Array, on: Places) -> tuple[Array, Array]:
    """The outputs' change at a point, and its gradient ``(C, n)`` in some weights."""
    scores = problem.scores.reshape(point.size, -1)[on].T
    outputs = problem.outputs(point)
    change = outputs - problem.original
    if problem.output == "identity":
        return change, scores
    if problem.output == "sigmoid":
        return change, (outputs * (1 - outputs))[:, None] * scores
    return change, outputs[:, None] * (scores - outputs @ scores)


def _further(problem: Problem, point: Array, on: Places) -> tuple[Array, Array]:
    """Tangents of the caller's constraints as rows ``A v <= b``."""
    n_outputs = problem.scores.shape[-1]
    rows, right = [np.empty((0, len(on) + 2 * n_outputs))], [np.empty(0)]
    for constraint in problem.concave:
        value, gradient = constraint(point)
        slope = np.nan_to_num(gradient.ravel()[on], posinf=1e6, neginf=-1e6)
        rows.append(np.concatenate([-slope, np.zeros(2 * n_outputs)])[None])
        right.append(np.array([value - slope @ point.ravel()[on]]))
    return np.concatenate(rows), np.concatenate(right)


def shipped(
    problem: Problem,
    found: list[Found],
    further: list[Found],
    confirm: Callable[[Array], Array] | None,
) -> Found:
    """The best rows that the model itself confirms; the original, at 0, where it confirms none.

    A model in float32 sees a little more or less distance than the affine form:
    each of the rows is offered with growing margins as well. ``further`` rows
    are only for the model to judge.
    """
    original = Found(problem.attention, 0.0)
    if confirm is None:
        return max([original, *found], key=lambda each: each.value)
    offered = [*further, *found, *(inner for each in found for inner in _inner(problem, each))]
    distances = np.asarray(confirm(np.stack([each.rows for each in offered])))
    if distances.shape != (len(offered),):
        raise ValueError(
            f"confirm must give one distance for each of {len(offered)} candidates; got shape "
            f"{distances.shape}. Keep its first dimension."
        )
    passed = [each for each, far in zip(offered, distances, strict=True) if far <= problem.epsilon]
    return max([original, *passed], key=lambda each: each.value)


def _inner(problem: Problem, found: Found) -> list[Found]:
    """Rows a little nearer to the original's output, on the same weights where that can be."""
    if found.value == 0:
        return []
    deepest = problem.epsilon / 10
    end = climbed(problem, found.rows, deepest).rows
    scale = 1.0
    if problem.output == "identity":
        scale = max(1.0, float(abs(problem.logits(problem.attention)).max()))
    shares = [scale * margin / deepest for margin in _MARGINS if scale * margin < deepest]
    points = [found.rows + share * (end - found.rows) for share in [*shares, 1.0]]
    return [Found(point, float(problem.divergence(point))) for point in points]
