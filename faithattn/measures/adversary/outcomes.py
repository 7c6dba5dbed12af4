"""How the attack on an instance ended, in words; results hold the numbers."""

from __future__ import annotations

OUTCOMES = (
    "the optimum, in closed form",
    "optimum and proven ceiling meet",
    "the budget of nodes ran out before the ceiling came down",
    "the ceiling allows outputs that the model does not",
    "searched: no ceiling was computed that it could meet",
    "the optimum, but the model itself exceeds epsilon on it",
    "undefined: there is no position to put weight on",
)
EXACT, CLOSED, NODES, RELAXATION, SEARCHED, UNCONFIRMED, UNDEFINED = range(len(OUTCOMES))
