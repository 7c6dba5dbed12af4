"""The allowed outputs as linear rows: probabilities are variables, logarithms lie under tangents.

A softmax is ``ln p_k = z_k - m`` with one m, the logarithm of the sum of all
``exp z_k``; a label is the softmax of its logit and 0. With the probabilities
as variables the distance is polyhedral, and all that is not linear are
logarithms on intervals as short as epsilon: above their chord, below their
tangents. Shorter intervals make both as exact as one likes, so that branching
on them reaches the true set. Everything is relative to the original output.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from faithattn.measures.certificate.problem import Array, Places, Problem, log_sum_exp

_ROUNDING = 1e-12  # of the ranges, which are proven but for it
_CANCELLED = 1e-15  # of a probability and its change, lost where one is taken from the other
_STEEPEST = 1e5  # of tangents, in units of the change; steeper ones are replaced by flatter ones


class Cells(NamedTuple):
    """Probabilities that are tied to logits, K = G S: the S classes, or both sides of G labels.

    Attributes:
        scores: What each weight adds to the logit, ``(K, n)``.
        centre: The logit's change is ``scores @ x - centre``, ``(K,)``.
        log_base: Logarithm of the original probability.
        output: Which output's change it shares, ``(K,)`` int.
        sign: 1, or -1 where it falls as the output rises.
        group: Which normaliser it has, ``(K,)`` int.
        differences: Of the logits from each other and, last, from 0; by row from the greatest
            on, ``(G, S + 1, S, R, T)``.
        order: Which weights these belong to.
        origin: What they come to at the original, ``(G, S + 1, S)``.
    """

    scores: Array
    centre: Array
    log_base: Array
    output: Places
    sign: Array
    group: Places
    differences: Array
    order: Places
    origin: Array


class Ranges(NamedTuple):
    """What a box of weights leaves: the least and greatest logarithm of each cell's ratio.

    Attributes:
        least: ``(K,)``.
        greatest: ``(K,)``.
        normaliser: Least and greatest change of each normaliser, ``(G, 2)``.
    """

    least: Array
    greatest: Array
    normaliser: Array


class Lifted(NamedTuple):
    """Variables: n weights, rises p and falls q of O outputs in units, G normalisers.

    Attributes:
        unit: What a rise or fall of 1 stands for.
        budget: Most that rises and falls sum to.
        cells: The probabilities; None for a regression, whose rows are exact.
        equal: Rows of the equations, ``(E, N)``.
        equal_to: Their right sides.
        n_outputs: O.
    """

    unit: float
    budget: float
    cells: Cells | None
    equal: Array
    equal_to: Array
    n_outputs: int


def lift(problem: Problem) -> Lifted:
    """The linear rows of a problem that hold in all of its box."""
    n_rows, length, n_outputs = problem.scores.shape
    softmax = problem.output == "softmax"
    unit = problem.epsilon * (1 if softmax else n_outputs)
    total = 2 * unit if softmax else unit
    cells, n_groups = None, 0
    if problem.output != "identity":
        unit = min(unit, 1.0)
        cells = _cells(problem)
        n_groups = len(cells.origin)
    count = n_rows * length + 2 * n_outputs + n_groups
    sums = np.zeros((n_rows, count))
    sums[:, : n_rows * length] = np.kron(np.eye(n_rows), np.ones(length))
    further = _equations(problem, unit, count)
    right = further[:, : n_rows * length] @ problem.attention.ravel()
    return Lifted(
        unit,
        total / unit,
        cells,
        np.vstack([sums, further]),
        np.concatenate([np.ones(n_rows), right]),
        n_outputs,
    )


def _equations(problem: Problem, unit: float, count: int) -> Array:
    """Rows beside the sums: rises equal falls; or the change of a regression is its logit's."""
    n = problem.attention.size
    n_outputs = problem.scores.shape[-1]
    ones = np.eye(n_outputs)
    if problem.output == "sigmoid":
        return np.empty((0, count))
    if problem.output == "softmax":
        row = np.zeros((1, count))
        row[:, n : n + n_outputs], row[:, n + n_outputs : n + 2 * n_outputs] = 1, -1
        return row
    rows = np.zeros((n_outputs, count))
    rows[:, :n] = problem.scores.reshape(n, n_outputs).T / unit
    rows[:, n : n + n_outputs], rows[:, n + n_outputs :] = -ones, ones
    return rows


def _cells(problem: Problem) -> Cells:
    n, n_outputs = problem.attention.size, problem.scores.shape[-1]
    scores = problem.scores.reshape(n, n_outputs).T
    logits = problem.logits(problem.attention)
    if problem.output == "softmax":
        scores, logits = scores[None], logits[None]
        output, sign = np.arange(n_outputs), np.ones(n_outputs)
    else:
        scores = np.stack([scores, np.zeros_like(scores)], axis=1)
        logits = np.stack([logits, np.zeros_like(logits)], axis=1)
        output, sign = np.arange(n_outputs).repeat(2), np.tile([1.0, -1.0], n_outputs)
    n_groups, size = logits.shape
    others = np.concatenate([scores, np.zeros((n_groups, 1, n))], axis=1)
    differences = scores[:, None] - others[:, :, None]
    by_row = differences.reshape(*differences.shape[:-1], *problem.attention.shape)
    order = np.argsort(-by_row, axis=-1)
    first = np.arange(len(problem.attention))[:, None] * problem.attention.shape[1]
    return Cells(
        scores.reshape(-1, n),
        (scores @ problem.attention.ravel()).ravel(),
        (logits - log_sum_exp(logits)[:, None]).ravel(),
        output,
        sign,
        np.arange(n_groups).repeat(size),
        np.take_along_axis(by_row, order, axis=-1),
        order + first,
        differences @ problem.attention.ravel(),
    )


def ranges(cells: Cells, lower: Array, upper: Array) -> Ranges:
    """What a box of weights ``(n,)`` leaves of the cells.

    A probability is 1 over the sum of the odds against it, each of which is
    monotone in one difference of logits, and the extremes of that over a box
    of the simplex are reached by filling weights in order.
    """
    base = lower[cells.order]
    room = upper[cells.order] - base
    up_to = np.cumsum(room, axis=-1)
    rest = 1 - lower.reshape(cells.order.shape[-2:]).sum(-1)[:, None]
    greatest = np.clip(rest - (up_to - room), 0, room)
    least = np.clip(rest - (up_to[..., -1:] - up_to), 0, room)
    log_base = cells.log_base.reshape(len(cells.origin), 1, -1)
    ends = []
    for filled in (least, greatest):
        reached = (cells.differences * (base + filled)).sum((-2, -1)) - cells.origin
        ends.append(log_sum_exp(log_base + reached))
    normaliser = np.stack([ends[0][:, -1] - _ROUNDING, ends[1][:, -1] + _ROUNDING], axis=-1)
    odds = [end[:, :-1].ravel() for end in ends]
    return Ranges(-odds[1] - _ROUNDING, -odds[0] + _ROUNDING, normaliser)


def reach(cells: Cells, left: Ranges, low: Array, high: Array) -> tuple[Array, Array]:
    """Bounds on the outputs' changes, narrowed to what the cells' ranges leave."""
    low, high = low.copy(), high.copy()
    down, up = _change(left.least, cells.log_base), _change(left.greatest, cells.log_base)
    lost = _lost(cells, down, up)
    down, up = down - lost, up + lost
    rising = cells.sign > 0
    np.maximum.at(low, cells.output, np.where(rising, down, -up))
    np.minimum.at(high, cells.output, np.where(rising, up, -down))
    return low, high


def _change(ratio: Array, log_base: Array) -> Array:
    """Change of a probability from the logarithm of its ratio to the original."""
    small = abs(ratio) < 0.5
    by_ratio = np.exp(log_base) * np.expm1(np.where(small, ratio, 0))
    return np.where(small, by_ratio, np.exp(ratio + log_base) - np.exp(log_base))


def _lost(cells: Cells, down: Array, up: Array) -> Array:
    """What rounding takes from sums of the cells' probabilities and their changes."""
    return _CANCELLED * (np.exp(cells.log_base) + np.maximum(abs(down), abs(up)))


class Links(NamedTuple):
    """Rows ``A v <= b`` of the cells: for all of them the chord, then their tangents."""

    rows: Array
    right: Array


def logarithms(cells: Cells, change: Array, towards: int = 0) -> Array:
    """Logarithm of each cell's ratio to the original at given changes of the outputs.

    A probability that nearly vanishes is a difference of two that do not, and
    its logarithm wrong by much more than rounding: with ``towards`` -1 or 1 it
    is a lower or an upper bound.
    """
    moved = cells.sign * change[cells.output]
    base = np.exp(cells.log_base)
    moved = moved + towards * _lost(cells, moved, moved)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = np.where(base > 0, moved / base, math.inf)
        small = abs(share) < 0.5
        near = np.log1p(np.where(small, share, 0))
        far = np.log(np.maximum(base + moved, 0)) - cells.log_base
    return np.where(small, near, far)


def links(lifted: Lifted, cells: Cells, left: Ranges, low: Array, high: Array) -> Links:
    """Rows that tie probabilities to logits while the outputs' changes lie within bounds."""
    n_outputs = lifted.n_outputs
    rising = cells.sign > 0
    lowest = np.where(rising, *(logarithms(cells, end, -1) for end in (low, high)))
    highest = np.where(rising, *(logarithms(cells, end, 1) for end in (high, low)))
    least, greatest = np.maximum(lowest, left.least), np.minimum(highest, left.greatest)
    greatest = np.maximum(least, greatest)
    down, up = _change(least, cells.log_base), _change(greatest, cells.log_base)
    wide = up - down > 1e-15
    chord = np.where(wide, (greatest - least) / np.where(wide, up - down, 1), 0)
    base = np.exp(cells.log_base)
    # Besides the ends, where the logarithm is farthest above its chord.
    middle = np.where(chord > 0, 1 / np.where(chord > 0, chord, 1), base + up)
    touched = np.stack([base + down, middle, base + up])
    touched = np.maximum(touched, max(lifted.unit / _STEEPEST, 1e-300))
    slope = np.concatenate([chord[None], 1 / touched])
    heights = np.log(touched) - cells.log_base - (touched - base) / touched
    n_cells, n = cells.scores.shape
    rows = np.zeros((4, n_cells, lifted.equal.shape[1]))
    turn = np.array([-1.0, 1, 1, 1])[:, None]
    rows[:, :, :n] = turn[..., None] * cells.scores
    place = np.arange(n_cells)
    weight = -turn * slope * cells.sign * lifted.unit
    rows[:, place, n + cells.output] = weight
    rows[:, place, n + n_outputs + cells.output] = -weight
    rows[:, place, n + 2 * n_outputs + cells.group] = -turn
    right = turn * cells.centre
    # A chord that is steep where both ends are nearly one carries what they lost.
    right[0] -= least - chord * (down + _lost(cells, down, up))
    right[1:] += heights
    return Links(rows.reshape(4 * n_cells, -1), right.ravel())
