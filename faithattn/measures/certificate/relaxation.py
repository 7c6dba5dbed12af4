"""One node of the tree: a linear programme above the divergence, and the bound it proves.

On a box the convex terms of the divergence lie below their chords. The bound
is not the solver's optimum but what its multipliers prove: for any multipliers
the objective plus their rows, maximised over the box, bounds the optimum, so
that no tolerance of the solver can spoil it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from faithattn.measures.certificate.cuts import Cuts
from faithattn.measures.certificate.lifted import (
    Lifted,
    Ranges,
    lift,
    links,
    logarithms,
    ranges,
    reach,
)
from faithattn.measures.certificate.problem import Array, Places, Problem, divergence_terms
from faithattn.measures.certificate.programme import minimise

_ROUNDING = 1e-14  # of sums of products, by their size
_APART = 1e-10  # bounds on a change that leave nothing


class Node(NamedTuple):
    """A part of the allowed set: bounds on weights ``(n,)`` and outputs' changes, and cuts."""

    lower: Array
    upper: Array
    low: Array
    high: Array
    cuts: Places


class Solved(NamedTuple):
    """The relaxation of a node.

    Attributes:
        node: What was left of the node.
        bound: Proven: the divergence is at most this in the node.
        weights: Where the relaxation is greatest, ``(n,)``; None if the solver failed.
        change: The outputs' changes there, ``(O,)``.
        gaps: How far the chords lie above the divergence there, ``(n,)``.
        slack: How much the untrue logarithms are worth, by output.
        residual: How untrue the logarithms are, by output.
        reduced: What the bound loses with each weight, rise and fall, ``(n + 2 O,)``; negative
            where it loses with a lesser one.
    """

    node: Node
    bound: float
    weights: Array | None
    change: Array
    gaps: Array
    slack: Array
    residual: Array
    reduced: Array


class Relaxation:
    """The linear programmes of a problem; cuts may be added to all of them."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.lifted: Lifted = lift(problem)
        self._attention = problem.attention.ravel()
        self.cuts = Cuts(problem)
        budget = np.zeros((1, self.lifted.equal.shape[1]))
        n = len(self._attention)
        budget[:, n : n + 2 * self.lifted.n_outputs] = 1
        self._budget = budget

    def root(self) -> Node:
        """All that is allowed."""
        lower, upper = self.problem.box
        unit = np.full(self.lifted.n_outputs, self.lifted.unit)
        return Node(lower.ravel(), upper.ravel(), -unit, unit, np.arange(0))

    def solve(self, node: Node, parent: float = math.inf) -> Solved | None:
        """The relaxation of a node; None where it is proven empty."""
        lifted, rows = self.lifted, [self._budget, np.zeros((len(node.cuts), len(self._budget[0])))]
        rows[1][:, : len(node.lower)] = self.cuts.rows[node.cuts]
        right = [self.cuts.right[node.cuts]]
        left = None
        if lifted.cells is not None:
            left = ranges(lifted.cells, node.lower, node.upper)
            low, high = reach(lifted.cells, left, node.low, node.high)
            if (low > high + _APART).any():
                return None
            node = node._replace(low=np.minimum(low, high), high=np.maximum(low, high))
            tied = links(lifted, lifted.cells, left, node.low, node.high)
            rows.append(tied.rows)
            right.append(tied.right)
        return self._solve(
            node, left, np.concatenate(rows), np.concatenate([[lifted.budget], *right]), parent
        )

    def _solve(
        self, node: Node, left: Ranges | None, rows: Array, right: Array, parent: float
    ) -> Solved | None:
        cost, constant = self._chords(node)
        lifted, low, high = self.lifted, *self._bounds(node, left)
        box = np.stack([low, high], 1)
        found = minimise(cost, rows, right, lifted.equal, lifted.equal_to, box)
        if found.empty and _empty(rows, right, lifted, low, high):
            return None
        if not found.solved:  # a sliver; its bound is proven all the same
            found = minimise(cost, rows, right, lifted.equal, lifted.equal_to, box, 1e-6)
        if not found.solved:
            return self._unsolved(node, parent)
        multipliers = np.concatenate([found.above, found.level])
        held = np.concatenate([rows, lifted.equal]), np.concatenate([right, lifted.equal_to])
        least, reduced = _proven(cost, *held, multipliers, low, high)
        bound = min(parent, constant - least)
        cuts, tied = np.split(found.above[1:], [len(node.cuts)])
        node = node._replace(cuts=node.cuts[cuts < 0])  # the others do not hold it up
        return self._read(node, left, found.point, bound, tied, reduced)

    def _chords(self, node: Node) -> tuple[Array, float]:
        """Negative slopes of the chords as costs, and their sum at no weight."""
        ends = divergence_terms(np.stack([node.lower, node.upper]), self._attention)
        width = node.upper - node.lower
        wide = width > 0
        slope = np.where(wide, (ends[1] - ends[0]) / np.where(wide, width, 1), 0)
        n_rows = len(self.problem.attention)
        cost = np.zeros(self._budget.shape[1])
        cost[: len(slope)] = -slope / n_rows
        return cost, float((ends[0] - slope * node.lower).sum() / n_rows)

    def _bounds(self, node: Node, left: Ranges | None) -> tuple[Array, Array]:
        """Bounds of all variables; a rise and a fall are the two parts of a change."""
        unit = self.lifted.unit
        normaliser = np.empty((0, 2)) if left is None else left.normaliser
        rise = np.maximum(node.low, 0) / unit, np.maximum(node.high, 0) / unit
        fall = np.maximum(-node.high, 0) / unit, np.maximum(-node.low, 0) / unit
        low = np.concatenate([node.lower, rise[0], fall[0], normaliser[:, 0]])
        return low, np.concatenate([node.upper, rise[1], fall[1], normaliser[:, 1]])

    def _read(
        self,
        node: Node,
        left: Ranges | None,
        found: Array,
        bound: float,
        multipliers: Array,
        reduced: Array,
    ) -> Solved:
        """What a solution says about where to branch."""
        lifted, n = self.lifted, len(self._attention)
        n_outputs = lifted.n_outputs
        weights = np.clip(found[:n], node.lower, node.upper)
        rise, fall, normaliser = np.split(found[n:], [n_outputs, 2 * n_outputs])
        change = np.clip((rise - fall) * lifted.unit, node.low, node.high)
        ends = divergence_terms(np.stack([node.lower, node.upper, weights]), self._attention)
        width = node.upper - node.lower
        share = np.where(width > 0, (weights - node.lower) / np.where(width > 0, width, 1), 0)
        gaps = (ends[0] + share * (ends[1] - ends[0]) - ends[2]) / len(self.problem.attention)
        slack, residual = np.zeros(n_outputs), np.zeros(n_outputs)
        if lifted.cells is not None and left is not None:
            cells = lifted.cells
            affine = cells.scores @ weights - cells.centre - normaliser[cells.group]
            logs = np.maximum(logarithms(cells, change), left.least)
            untrue = affine - logs
            prices = -multipliers.reshape(4, -1)
            price = np.where(untrue < 0, prices[0], prices[1:].sum(0))
            np.maximum.at(slack, cells.output, price * abs(untrue))
            np.maximum.at(residual, cells.output, abs(untrue))
        return Solved(
            node, bound, weights, change, gaps, slack, residual, reduced[: n + 2 * n_outputs]
        )

    def _unsolved(self, node: Node, bound: float) -> Solved:
        n, n_outputs = len(self._attention), self.lifted.n_outputs
        zeros = np.zeros(n_outputs)
        return Solved(
            node, bound, None, zeros, np.zeros(n), zeros, zeros, np.zeros(n + 2 * n_outputs)
        )

    def tightened(self, solved: Solved, goal: float) -> Node:
        """The part of a node where the bound allows more than a goal."""
        node = solved.node
        lifted, n = self.lifted, len(node.lower)
        low, high = (each[: n + 2 * lifted.n_outputs] for each in self._bounds(node, None))
        spare = max(solved.bound - goal, 0.0)
        with np.errstate(divide="ignore"):
            step = np.where(solved.reduced != 0, spare / abs(solved.reduced), math.inf)
        high = np.where(solved.reduced > 0, np.minimum(high, low + step), high)
        low = np.where(solved.reduced < 0, np.maximum(low, high - step), low)
        rise, fall = np.split(np.stack([low, high])[:, n:] * lifted.unit, 2, axis=1)
        return Node(
            low[:n],
            high[:n],
            np.maximum(node.low, np.where(rise[0] > 0, rise[0], -fall[1])),
            np.minimum(node.high, np.where(fall[0] > 0, -fall[0], rise[1])),
            node.cuts,
        )


def _empty(rows: Array, right: Array, lifted: Lifted, low: Array, high: Array) -> bool:
    """Whether multipliers prove that no point of the box meets the rows.

    They are those of the least excess with which all rows can be met.
    """
    signed = np.concatenate([rows, lifted.equal, -lifted.equal])
    limit = np.concatenate([right, lifted.equal_to, -lifted.equal_to])
    worst = float((signed @ low - limit).max()) + 1
    cost = np.zeros(len(low) + 1)
    cost[-1] = 1
    signed = np.column_stack([signed, -np.ones(len(signed))])
    bounds = np.append(low, 0), np.append(high, worst)
    nothing = np.empty((0, len(cost)))
    found = minimise(cost, signed, limit, nothing, np.empty(0), np.stack(bounds, 1))
    if not found.solved:
        return False
    # The excess is a variable like the others, and costs 1.
    multipliers = np.concatenate([found.above, found.level])
    return _proven(cost, signed, limit, multipliers, *bounds)[0] > 0


def _proven(
    cost: Array, rows: Array, right: Array, multipliers: Array, low: Array, high: Array
) -> tuple[float, Array]:
    """What multipliers prove to be the least ``cost @ v``, and the reduced costs.

    Whatever can be lost to rounding is taken off.
    """
    reduced = cost - multipliers @ rows
    ends = np.where(reduced > 0, reduced * low, reduced * high).sum()
    sizes = (abs(cost) + abs(multipliers) @ abs(rows)) @ np.maximum(abs(low), abs(high))
    rounding = _ROUNDING * (sizes + abs(multipliers) @ abs(right))
    return float(ends + multipliers @ right - rounding), reduced
