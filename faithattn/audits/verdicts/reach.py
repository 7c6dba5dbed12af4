"""How far an adversary went, measured by how far any attention can go."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

Values = NDArray[np.float64]

_SHORTEST = 3  # positions: with two, the output alone may fix the attention
_SLACK = 1e-4  # of the way: what the exact adversary certifies


class Reach(NamedTuple):
    """What a verdict asks of the adversary, one value an instance; nan below three positions.

    Attributes:
        unhindered: 1 where the adversary is as far as any attention can be, else 0.
        bound: Proven ceiling of how far it can be, as a share of that.
    """

    unhindered: Values
    bound: Values


def farthest(smallest: Values) -> Values:
    """Largest Jensen-Shannon divergence that any attention has from a given one.

    The divergence is convex, so a corner of the simplex is farthest: all weight
    on the position that had least.

    Args:
        smallest: The least weight of an attention row over its real positions, 0..1, any shape.

    Returns:
        Divergence in nats, in 0..ln 2, of the shape of ``smallest``. For several
        rows average it over them, as the divergence of the adversary is.

    Examples:
        >>> farthest(np.array([1 / 3, 0.1])).round(6).tolist()  # of uniform attention
        [0.318257, 0.525597]
    """
    w = np.asarray(smallest, dtype=np.float64)
    middle = (1 + w) / 2
    found: Values = (-np.log(middle) + xlogy(w, w / middle) + (1 - w) * np.log(2)) / 2
    return found


def reach(max_jsd: Values, upper_bound: Values, farthest: Values, length: Values) -> Reach:
    """Measures an adversary by the farthest attention there is.

    How far an adversary comes says little by itself: two positions of a long text
    almost always balance each other at almost no attention, so that it nearly
    reaches a corner even where attention is all that counts. That it does reach
    the farthest corner says that nothing hindered it.

    Args:
        max_jsd: Divergence of the farthest feasible adversary, ``(B,)``.
        upper_bound: Its proven ceiling, ``(B,)``.
        farthest: What :func:`farthest` gives, ``(B,)``.
        length: Real positions, ``(B,)``.

    Returns:
        Both numbers, ``(B,)``; nan where there are fewer than three positions
        or there is no adversary.

    Examples:
        >>> far = farthest(np.array([0.1, 0.1]))
        >>> reach(np.array([0.52559741, 0.2]), far, far, np.array([10, 10]))
        Reach(unhindered=array([1., 0.]), bound=array([1., 1.]))
    """
    known = (np.asarray(length) >= _SHORTEST) & ~np.isnan(max_jsd) & (farthest > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Next to a corner of a long text the divergence is flat: there it must be closer.
        slack = np.minimum(_SLACK, 1 / np.square(np.maximum(length, 1)))
        free = (max_jsd >= (1 - slack) * farthest).astype(np.float64)
        bound = np.clip(upper_bound / farthest, 0, 1)
    return Reach(np.where(known, free, np.nan), np.where(known, bound, np.nan))
