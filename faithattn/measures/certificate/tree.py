"""Branch and bound over the relaxations, best first."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import numpy as np

from faithattn.measures.certificate.polish import Found, climbed, restored, settled, shipped
from faithattn.measures.certificate.problem import (
    SLACK,
    Array,
    Certificate,
    Problem,
)
from faithattn.measures.certificate.relaxation import Node, Relaxation, Solved

_ROOT_ROUNDS = 20  # of cuts
_ROUNDS = 2
_KEPT = 3  # rows offered to the model
_TRUE = 1e-9  # residual of a logarithm that counts as none
_CLIMB_EVERY = 20  # nodes
_NOTHING = 1e-9  # of the bound
_NARROW = 1e-6  # weight's range that is not split without a solution
_TO_MIDDLE = 0.15  # how far a weight is split from its solution


def certify(
    problem: Problem,
    *,
    n_nodes: int,
    known: Array | None = None,
    tolerance: float = 1e-4,
    confirm: Callable[[Array], Array] | None = None,
) -> Certificate:
    """Rows far from the original, and a proven bound on how far any allowed rows can be.

    Branch and bound over linear programmes that contain the allowed set, and
    come as near to it as one likes. The bound stands whenever the search ends.

    Args:
        problem: What may be chosen, and how the output depends on it.
        n_nodes: Nodes at most, 1 or more; each costs a few milliseconds.
        known: Rows that were found before, ``(R, T)``: a start, and offered to the model.
        tolerance: How near bound and value must come, above 0, in nats.
        confirm: The model's own distances ``(K,)`` of rows ``(K, R, T)``; called
            once, at the end. Only rows within epsilon are given out. Without it
            the affine form decides.

    Returns:
        The certificate; its rows are the original, with value 0, where nothing else is confirmed.

    Raises:
        ValueError: If a number is out of range, or shapes differ.

    References:
        Branch and bound of Falk & Soland (1969), "An algorithm for separable nonconvex
        programming problems"; bounds from multipliers after Neumaier & Shcherbina (2004), "Safe
        bounds in linear and mixed-integer linear programming". See docs/definitions.md,
        "Exact adversary".

    Examples:
        >>> import numpy as np
        >>> attention = np.array([[0.7, 0.2, 0.1]])
        >>> scores = np.array([[[2.0, 0.0, 0.0], [-2.0, 1.0, 0.0], [0.0, 1.0, 1.0]]])
        >>> problem = Problem(attention, scores, np.zeros(3), "softmax", epsilon=0.05)
        >>> found = certify(problem, n_nodes=200)
        >>> found.outcome, round(found.value, 3), found.gap < 1e-4
        ('closed', 0.14, True)
    """
    _check(problem, n_nodes, known, tolerance)
    search = _Search(problem, tolerance)
    offered = []
    if known is not None:
        rows = settled(problem, np.asarray(known, dtype=np.float64))
        search.keep(restored(problem, rows))
        if all(constraint(rows)[0] >= -SLACK for constraint in problem.concave):
            offered.append(Found(rows, float(problem.divergence(rows))))
    ended = search.run(n_nodes)
    best = shipped(problem, search.found, offered, confirm)
    upper = min(max(search.upper, best.value), math.log(2))
    outcome = "closed" if upper - best.value <= tolerance else ended
    return Certificate(best.rows, best.value, upper, search.nodes, outcome)


def _check(problem: Problem, n_nodes: int, known: Array | None, tolerance: float) -> None:
    if n_nodes < 1:
        raise ValueError(f"n_nodes must be at least 1; got {n_nodes}. The first gives a bound.")
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be above 0; got {tolerance}. 1e-4 nats is the default.")
    if known is not None and np.shape(known) != problem.attention.shape:
        raise ValueError(
            f"known must have the shape of attention; got {np.shape(known)} and attention "
            f"{problem.attention.shape}. Give the rows of this instance."
        )


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
        """Looks at up to that many nodes; returns why it ended."""
        self._visit(self.relaxation.root(), math.log(2))
        while self._open and -self._open[0][0] > self.goal:
            if self.nodes + 2 > n_nodes:  # a branch takes up to two
                return "nodes"
            self._branch(heapq.heappop(self._open)[-1])
        return "relaxation"

    def keep(self, found: Found) -> None:
        """Keeps allowed rows if they are among the best."""
        self.found = sorted([*self.found, found], key=lambda each: -each.value)[:_KEPT]

    def _visit(self, node: Node, parent: float) -> None:
        """Bounds a node, looks for rows near its maximum, and puts it aside."""
        self.nodes += 1
        solved = self.relaxation.solve(node, parent)
        for _ in range(_ROOT_ROUNDS if self.nodes == 1 else _ROUNDS):
            if solved is None or solved.bound <= self.goal:
                break
            cut = self._cut(solved.node, solved)
            if cut is None:
                break
            solved = self.relaxation.solve(cut, solved.bound)
        if solved is None:
            return
        if solved.bound <= self.goal:
            self.closed = max(self.closed, solved.bound)
            return
        self._look(solved)
        heapq.heappush(self._open, (-solved.bound, next(self._tickets), solved))

    def _cut(self, node: Node, solved: Solved) -> Node | None:
        """The node with what cuts its solution off; None if nothing does."""
        if solved.weights is None:
            return None
        further = self.relaxation.cuts.against(solved.weights)
        if not len(further):
            return None
        return node._replace(cuts=np.union1d(node.cuts, further))

    def _look(self, solved: Solved) -> None:
        if solved.weights is None:
            return
        rows = settled(self.problem, solved.weights.reshape(self.problem.attention.shape))
        value = float(self.problem.divergence(rows))
        if value <= self.found[0].value:
            return
        found = restored(self.problem, rows)
        self.keep(found)
        if (
            found.value < value - self.tolerance / 8
            and self.climbs <= self.nodes / _CLIMB_EVERY + 2
        ):
            self.climbs += 1
            self.keep(climbed(self.problem, rows))

    def _branch(self, solved: Solved) -> None:
        """Two halves of what a node leaves above the goal."""
        self.closed = max(self.closed, min(self.goal, solved.bound))
        node = self.relaxation.tightened(solved, self.goal)
        parts = self._halves(node, solved)
        if not parts:
            cut = self._cut(node, solved)
            parts = () if cut is None else (cut,)
        if not parts:
            self.closed = max(self.closed, solved.bound)
        for part in parts:
            self._visit(part, solved.bound)

    def _halves(self, node: Node, solved: Solved) -> tuple[Node, ...]:
        """Splits what makes the bound untrue: a weight's chord, or an output's logarithms."""
        width = node.upper - node.lower
        if solved.weights is None:
            place = int(width.argmax())
            middle = (node.lower[place] + node.upper[place]) / 2
            return _at_weight(node, place, middle) if width[place] > _NARROW else ()
        gap, slack = float(solved.gaps.max()), float(solved.slack.max())
        if gap >= max(slack, _NOTHING):
            # Of those that matter, a wide one: its chords fall most.
            merit = np.where(solved.gaps > gap / 5, solved.gaps * np.sqrt(width), -1)
            place = int(merit.argmax())
            return _at_weight(node, place, float(solved.weights[place]))
        blame = solved.slack if slack > _NOTHING else solved.residual
        output = int(blame.argmax())
        if solved.residual[output] < _TRUE:
            return ()
        return _at_output(node, output, float(solved.change[output]))


def _at_weight(node: Node, place: int, at: float) -> tuple[Node, Node]:
    """Two nodes that meet near a value of one weight."""
    low, high = node.lower[place], node.upper[place]
    first, second = node.upper.copy(), node.lower.copy()
    first[place] = second[place] = at + _TO_MIDDLE * ((low + high) / 2 - at)
    return node._replace(upper=first), node._replace(lower=second)


def _at_output(node: Node, output: int, at: float) -> tuple[Node, Node]:
    """Two nodes that meet near a value of one output's change."""
    low, high = node.low[output], node.high[output]
    room = (high - low) / 10
    first, second = node.high.copy(), node.low.copy()
    first[output] = second[output] = min(max(at, low + room), high - room)
    return node._replace(high=first), node._replace(low=second)
