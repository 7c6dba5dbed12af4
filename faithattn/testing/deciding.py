"""How many instances would decide what a sample leaves open."""

from __future__ import annotations

import math

from scipy import stats

_POWER = 0.8


def instances_to_decide(
    n: int, mean: float, bound: float, limit: float, confidence: float
) -> int | None:
    """About how many instances would tell the mean from the limit, with power .8.

    The distance from mean to bound shrinks with the root of their number,
    whatever the spread and the clusters; None where no number would do.

    Examples:
        >>> instances_to_decide(100, 0.34, 0.27, 0.3, 0.95)
        700
        >>> instances_to_decide(100, 0.3, 0.27, 0.3, 0.95) is None
        True
    """
    gap, width = abs(mean - limit), abs(mean - bound)
    if math.isnan(width) or gap <= 1e-12 * max(abs(mean), abs(limit)):
        return None
    z = stats.norm.ppf(confidence)
    exact = n * (width / gap * (z + stats.norm.ppf(_POWER)) / z) ** 2
    digits = max(0, math.floor(math.log10(max(exact, 1))) - 1)
    return int(math.ceil(exact / 10**digits) * 10**digits)
