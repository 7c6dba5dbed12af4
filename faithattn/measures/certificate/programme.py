"""Linear programmes as HiGHS solves them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog

from faithattn.measures.certificate.problem import Array


class Solution(NamedTuple):
    """Outcome of a linear programme.

    Attributes:
        point: A minimum; empty unless solved.
        above: Multipliers of the rows ``A v <= b``, at most 0.
        level: Multipliers of the equations.
        solved: Whether a minimum was found.
        empty: Whether the solver holds that nothing meets the rows.
    """

    point: Array
    above: Array
    level: Array
    solved: bool
    empty: bool


def minimise(
    cost: Array,
    rows: Array,
    right: Array,
    equal: Array,
    equal_to: Array,
    bounds: Array,
    tolerance: float = 1e-9,
) -> Solution:
    """Minimum of ``cost @ v`` where ``rows @ v <= right`` and ``equal @ v = equal_to``.

    ``bounds`` are the least and greatest value of each variable, ``(N, 2)``;
    ``tolerance`` is how far a row may be missed. Presolve does not pay for a
    hundred variables.
    """
    options = {"presolve": False, "primal_feasibility_tolerance": tolerance}
    call: Any = linprog
    found = call(cost, rows, right, equal, equal_to, bounds=bounds, method="highs", options=options)
    if found.status != 0:
        nothing = np.empty(0)
        return Solution(nothing, nothing, nothing, False, found.status == 2)
    above = np.minimum(found.ineqlin.marginals, 0)
    return Solution(found.x, above, found.eqlin.marginals, True, False)
