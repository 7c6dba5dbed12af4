"""Branch and bound over the relaxations, best first."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import numpy as np

from faithattn.measures.certificate.polish import Found, climbed, restored, settled, shipped
from faithattn.measures.certificate.problem import SLACK, Array, Certificate, Problem
from faithattn.measures.certificate.relaxation import Node, Relaxation, Solved

_CUT_ROUNDS = 20
_KEPT = 3  # rows offered to the model
_TRUE = 1e-9  # residual of a logarithm that counts as none


def certify(
    problem: Problem,
    *,
    n_nodes: int,
    known: Array | None = None,
    tolerance: float = 1e-4,
    confirm: Callable[[Array], Array] | None = None,
) -> Certificate:
    """..."""
    search = _Search(problem, tolerance)
    if known is not None:
        search.offer(np.asarray(known, dtype=np.float64))
    ended = search.run(n_nodes)
    best = shipped(problem, search.found, confirm)
    upper = min(max(search.upper, best.value), math.log(2))
    outcome = "closed" if upper - best.value <= tolerance else ended
    return Certificate(best.rows, best.value, upper, search.nodes, outcome)


class _Search:
    """The state of one tree."""

    def __init__(self, problem: Problem, tolerance: float) -> None:
        self.problem, self.tolerance = problem, tolerance
        self.relaxation = Relaxation(problem)
        self.found = [Found(problem.attention, 0.0)]
        self.nodes = 0
        self.closed = 0.0  # greatest bound of what needs no further look
        self.climbs = 0
        self._open: list[tuple[float, int, Solved]] = []
        self._tickets = itertools.count()

    @property
    def goal(self) -> float:
        """What a node must promise to be looked into."""
        return self.found[0].value + self.tolerance / 2

    @property
    def upper(self) -> float:
        """Proven bound of all that is allowed."""
        rest = -self._open[0][0] if self._open else 0.0
        return max(self.closed, rest, self.found[0].value)

    def run(self, n_nodes: int) -> str:
        """Solves up to that many nodes."""
        self._visit(self.relaxation.root(), math.log(2))
        while self._open and self.upper > self.goal:
            if self.nodes >= n_nodes:
                return "nodes"
            _, _, solved = heapq.heappop(self._open)
            self._branch(solved)
        return "relaxation"

    def offer(self, rows: Array) -> None:
        """Keeps rows if they are among the best."""
        self._keep(restored(self.problem, settled(self.problem, rows)))

    def _keep(self, found: Found) -> None:
        self.found = sorted([*self.found, found], key=lambda each: -each.value)[:_KEPT]

    def _visit(self, node: Node, parent: float) -> None:
        """Bounds a node, looks for rows near its maximum, and puts it aside."""
        solved = self.relaxation.solve(node, parent)
        self.nodes += 1
        for _ in range(_CUT_ROUNDS if self.nodes == 1 else 3):
            if solved is None or solved.weights is None or not self._cut(solved.weights):
                break
            solved = self.relaxation.solve(node, solved.bound)
        if solved is None:
            return
        if solved.bound <= self.goal:
            self.closed = max(self.closed, solved.bound)
            return
        self._look(solved)
        heapq.heappush(self._open, (-solved.bound, next(self._tickets), solved))

    def _look(self, solved: Solved) -> None:
        if solved.weights is None:
            return
        rows = settled(self.problem, solved.weights.reshape(self.problem.attention.shape))
        value = float(self.problem.divergence(rows))
        if value <= self.found[0].value:
            return
        found = restored(self.problem, rows)
        self._keep(found)
        if found.value < value - self.tolerance / 8 and self.climbs <= self.nodes / 8 + 1:
            self.climbs += 1
            self._keep(climbed(self.problem, rows))

    def _cut(self, weights: Array) -> bool:
        """Cuts off weights that a constraint of the caller's forbids."""
        shape, cut = self.problem.attention.shape, False
        rows = weights.reshape(shape)
        for constraint in self.problem.concave:
            if constraint(rows)[0] >= -SLACK:
                continue
            cut = True
            value, gradient = constraint(rows)
            self.relaxation.cut(gradient.ravel(), value, weights)
        return cut

    def _branch(self, solved: Solved) -> None:
        """Two halves of what a node leaves above the goal."""
        self.closed = max(self.closed, min(self.goal, solved.bound))
        halves = self._halves(self.relaxation.tightened(solved, self.goal), solved)
        if halves is None:
            self.closed = max(self.closed, solved.bound)
            return
        for half in halves:
            self._visit(half, solved.bound)

    def _halves(self, node: Node, solved: Solved) -> tuple[Node, Node] | None:
        place, output = int(solved.gaps.argmax()), int(solved.slack.argmax())
        if solved.weights is None:
            place = int((node.upper - node.lower).argmax())
            middle = (node.upper[place] + node.lower[place]) / 2
            wide = node.upper[place] - node.lower[place] > 1e-6
            return self._split_weight(node, place, middle) if wide else None
        if solved.gaps[place] < 1e-9 and solved.slack[output] < 1e-9:
            output = int(solved.residual.argmax())
            if solved.residual[output] < _TRUE:
                return None
        elif solved.gaps[place] >= solved.slack[output]:
            low, high = node.lower[place], node.upper[place]
            at = min(max(float(solved.weights[place]), low), high)
            return self._split_weight(node, place, at)
        low, high = node.low[output], node.high[output]
        at = np.clip(solved.change[output], low + 0.1 * (high - low), high - 0.1 * (high - low))
        first, second = node.high.copy(), node.low.copy()
        first[output] = second[output] = at
        return node._replace(high=first), node._replace(low=second)

    def _split_weight(self, node: Node, place: int, at: float) -> tuple[Node, Node]:
        first, second = node.upper.copy(), node.lower.copy()
        first[place] = second[place] = at
        return node._replace(upper=first), node._replace(lower=second)
