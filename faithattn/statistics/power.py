"""What a sample of this size could have shown."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special

from faithattn._checks import require_count
from faithattn.statistics import bootstrap
from faithattn.statistics.pvalues import SIGNIFICANCE
from faithattn.statistics.values import Clusters, Numbers, as_values, require_share, sample_of


def minimum_detectable_effect(
    values: Numbers | None = None,
    *,
    spread: float | None = None,
    n: int | None = None,
    power: float = 0.8,
    level: float = SIGNIFICANCE,
    clusters: Clusters | None = None,
) -> float:
    """Smallest distance of the mean from a fixed value that such a sample shows reliably.

    If the mean is so far away, a two-sided t test at ``level`` rejects with
    probability ``power``. It depends on the spread of the values and their
    number, not on where their mean lies, so it is not the "observed power" of a finding.

    Args:
        values: One value an instance, ``(N,)``; nan is left out. Their spread and number count.
        spread: Standard deviation of the values, instead of values.
        n: Their number, with ``spread``.
        power: Probability of showing the effect.
        level: Of the test.
        clusters: As for :func:`faithattn.mean_interval`: the standard error is that of
            whole clusters, with as many degrees of freedom.

    Returns:
        The effect, in the unit of the values; nan where fewer than two
        values, or clusters, are defined.

    Raises:
        ValueError: If neither values nor both ``spread`` and ``n`` are given, or a number is
            out of its range.

    References:
        Cohen (1988), "Statistical power analysis for the behavioral sciences",
        chapter 2; Kish (1965), "Survey sampling", for clusters.

    Examples:
        >>> print(f"{minimum_detectable_effect(spread=0.2, n=200):.4f}")
        0.0398
    """
    require_share("power", power)
    require_share("level", level)
    error, freedom = _error(values, spread, n, clusters)
    if not freedom >= 1:
        return math.nan
    return error * _noncentrality(power, level, freedom)


def design_effect(values: Numbers, clusters: Clusters) -> float:
    """By which factor clusters enlarge the variance of the mean of these values.

    Dividing the number of values by it gives how many independent ones would
    tell as much. Nan where it is not defined.

    Examples:
        >>> print(f"{design_effect([0, 0, 0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 2, 2, 2]):.2f}")
        4.00
    """
    given = as_values("values", values)
    grouped, alone = sample_of(given, clusters), sample_of(given)
    if len(grouped) < 2 or np.ptp(alone.sums) == 0:
        return math.nan
    return (grouped.spread / alone.spread) ** 2


def _error(
    values: Numbers | None, spread: float | None, n: int | None, clusters: Clusters | None
) -> tuple[float, float]:
    """Standard error of the mean and its degrees of freedom."""
    if values is not None and spread is None and n is None:
        sample = sample_of(as_values("values", values), clusters)
        if not bootstrap.is_defined([sample]):
            return math.nan, math.nan
        return sample.spread, len(sample) - 1
    if values is not None or spread is None or n is None or clusters is not None:
        raise ValueError(
            "values must be given alone or with clusters, or spread and n in their place; got "
            "another mixture. Pass values, or spread=... and n=...."
        )
    if not spread >= 0:
        raise ValueError(f"spread must be at least 0; got {spread!r}. Pass a standard deviation.")
    count = require_count("n", n)
    return spread / math.sqrt(count), count - 1


def _noncentrality(power: float, level: float, freedom: float) -> float:
    """Distance in standard errors at which the test has that power."""
    critical = float(special.stdtrit(freedom, 1 - level / 2))

    def missing(distance: float) -> float:
        right = 1 - special.nctdtr(freedom, distance, critical)
        # Nothing is left of the other tail where SciPy has no number for it.
        left = special.nctdtr(freedom, distance, -critical)
        return float(right + np.nan_to_num(left)) - power

    if power <= level:
        return 0.0
    far = critical + 1.0
    while missing(far) < 0:
        far *= 2
    return float(optimize.brentq(missing, 0.0, far))
