"""Tangents of the caller's constraints, made where a solution breaks one and kept for others."""

from __future__ import annotations

import numpy as np

from faithattn.measures.certificate.polish import settled
from faithattn.measures.certificate.problem import Array, Constraint, Places, Problem

_MISSED = 1e-8  # of a constraint that is not cut off
_CUT_OFF = 1e-9  # what a cut must take away
_AT_ONCE = 4
_INWARD = 1e-7
_HALVINGS = 15


class Cuts:
    """A growing pool of rows ``A x <= b`` that all allowed weights ``(n,)`` meet."""

    def __init__(self, problem: Problem) -> None:
        lower, upper = problem.box
        self._problem = problem
        self._middle = settled(problem, (lower + upper) / 2)
        self.rows = np.empty((0, problem.attention.size))
        self.right = np.empty(0)

    def against(self, weights: Array) -> Places:
        """Which cuts take weights off that a constraint forbids; made if there are none."""
        beyond = self.rows @ weights - self.right
        worst = np.argsort(-beyond)[:_AT_ONCE]
        worst = worst[beyond[worst] > _CUT_OFF]
        if len(worst):
            return worst
        rows, before = weights.reshape(self._problem.attention.shape), len(self.right)
        for constraint in self._problem.concave:
            if constraint(rows)[0] < -_MISSED:
                self._add(constraint, rows)
        return np.arange(before, len(self.right))

    def _add(self, constraint: Constraint, rows: Array) -> None:
        """The deepest tangent between the original and forbidden rows.

        Near the boundary it cuts deepest; off the sides of the simplex, where an
        entropy's slope is infinite, it is finite. Any tangent is valid.
        """
        inner, outer = self._inward(self._problem.attention), self._inward(rows)
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            inside = constraint(inner + middle * (outer - inner))[0] > 0
            low, high = (middle, high) if inside else (low, middle)
        for share in (high, 1.0):
            point = inner + share * (outer - inner)
            value, gradient = constraint(point)
            # Where no weight may lie the slope does not matter.
            gradient = np.nan_to_num(gradient, posinf=0, neginf=0)
            size = max(1.0, float(abs(gradient).max()))
            if (value + (gradient * (rows - point)).sum()) / size < -_CUT_OFF:
                self.rows = np.vstack([self.rows, -gradient.reshape(1, -1) / size])
                self.right = np.append(self.right, (value - (gradient * point).sum()) / size)
                return

    def _inward(self, rows: Array) -> Array:
        return rows + _INWARD * (self._middle - rows)
