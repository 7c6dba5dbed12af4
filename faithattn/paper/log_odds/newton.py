"""The weights and bias of least loss of a linear model on sparse data, by Newton's method.

Where no word tells the class, or many are rare, L-BFGS takes 250 to 1,000 steps to three decimals;
a truncated Newton method gets to five in as many products as 100 to 200 of those steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

_Numbers: TypeAlias = NDArray[np.float64]

_SLOPE = 1e-4  # norm of the gradient at the end: the weights are then as near to the optimum
_STEPS = 1000


class Loss(NamedTuple):
    """A loss at some logits ``(N, R)``.

    Attributes:
        value: The loss, summed over texts.
        slope: Its derivative by each logit, ``(N, R)``.
        bend: Maps a change of the logits ``(N, R)`` to that of the slope.
    """

    value: float
    slope: _Numbers
    bend: Callable[[_Numbers], _Numbers]


def least_loss(
    held: Any, loss: Callable[[_Numbers], Loss], n_rows: int, l2: float
) -> tuple[_Numbers, _Numbers]:
    """Minimises ``loss(held @ weights.T + bias) + l2 / 2 * sum(weights ** 2)``.

    Args:
        held: Data, ``(N, V)``, sparse.
        loss: A convex function of the logits ``(N, R)``.
        n_rows: R, the number of logits.
        l2: Strength of the penalty, positive.

    Returns:
        The weights ``(R, V)`` and the bias ``(R,)``; the weights are within about
        1e-4 of the optimum, as the penalty bends the loss by ``l2`` at least.

    Raises:
        ValueError: If the search does not get there.
    """
    problem = _Problem(held, loss, n_rows, l2)
    found = minimize(
        problem.value,
        np.zeros((held.shape[1] + 1) * n_rows),
        jac=problem.gradient,
        hessp=problem.product,
        method="trust-ncg",
        options={"gtol": _SLOPE * min(1.0, l2), "maxiter": _STEPS},
    )
    if not found.success:
        raise ValueError(
            f"l2 must let the regression converge; got {l2}, and a slope of "
            f"{float(np.linalg.norm(found.jac)):.1e} after {found.nit} steps. Raise l2."
        )
    point = found.x.reshape(-1, n_rows)
    return point[:-1].T, point[-1]


class _Problem:
    """The function of all weights, and last the bias, as SciPy calls it."""

    def __init__(self, held: Any, loss: Callable[[_Numbers], Loss], n_rows: int, l2: float) -> None:
        self._held, self._columns = held, held.T.tocsr()
        self._loss, self._n_rows, self._l2 = loss, n_rows, l2
        self._point: _Numbers | None = None

    def value(self, flat: _Numbers) -> float:
        """The loss with the penalty."""
        weights = flat[: -self._n_rows]
        return self._at(flat).value + self._l2 / 2 * float(weights @ weights)

    def gradient(self, flat: _Numbers) -> _Numbers:
        """Its derivative by each weight."""
        return self._gathered(self._at(flat).slope, flat)

    def product(self, flat: _Numbers, direction: _Numbers) -> _Numbers:
        """How the gradient changes in a direction."""
        return self._gathered(self._at(flat).bend(self._logits(direction)), direction)

    def _at(self, flat: _Numbers) -> Loss:
        """The loss at a point; SciPy asks for many things at the same one."""
        if self._point is None or not np.array_equal(self._point, flat):
            self._point, self._found = flat.copy(), self._loss(self._logits(flat))
        return self._found

    def _logits(self, flat: _Numbers) -> _Numbers:
        point = flat.reshape(-1, self._n_rows)
        logits: _Numbers = self._held @ point[:-1] + point[-1]
        return logits

    def _gathered(self, slope: _Numbers, flat: _Numbers) -> _Numbers:
        """What a slope of the logits is for the weights, with the penalty's share."""
        weights = flat.reshape(-1, self._n_rows)[:-1]
        return np.vstack([self._columns @ slope + self._l2 * weights, slope.sum(0)]).ravel()
